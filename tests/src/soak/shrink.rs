//! A shorter list that still fails. Pure, but for the trying.

/// Looks for a shorter list of which `fails` holds, as it does of this one, trying at most so many.
///
/// What matters has mostly happened last, so the ends of the list are tried first; then pieces are left out,
/// large ones before small ones.
pub fn shrink<T: Clone>(
    list: &[T],
    mut attempts: u32,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut try_it = |list: &[T]| {
        let is_left = attempts > 0;
        attempts = attempts.saturating_sub(1);
        is_left && fails(list)
    };
    let lens = (3..).map(|n| 1_usize << n).step_by(2).take_while(|&len| len < list.len());
    let end = lens.map(|len| &list[list.len() - len..]).find(|end| try_it(end));
    let mut shortest = end.unwrap_or(list).to_vec();
    let mut piece = shortest.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < shortest.len() {
            let mut without = shortest.clone();
            without.drain(at..(at + piece).min(shortest.len()));
            // What is left is at the same place then.
            if try_it(&without) { shortest = without } else { at += piece }
        }
        piece /= 2;
    }
    shortest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let list: Vec<u32> = (0..1000).collect();
        let fails = |list: &[u32]| list.contains(&17) && list.contains(&940);
        assert_eq!(shrink(&list, u32::MAX, fails), [17, 940]);
        let fails = |list: &[u32]| list.contains(&998);
        assert_eq!(shrink(&list, 8, fails), [998]);
    }

    #[test]
    fn no_more_is_tried_than_may_be() {
        let list: Vec<u32> = (0..1000).collect();
        let mut tried = 0;
        let shortest = shrink(&list, 5, |_| {
            tried += 1;
            false
        });
        assert_eq!((tried, shortest), (5, list));
    }
}
