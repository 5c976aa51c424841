//! The host's links, found by number and by name: on a host with a thousand containers each is looked for often.

use std::collections::BTreeMap;

use crate::netlink::link::Link;

/// Links in the order of their numbers, each name once.
#[derive(Debug, Default)]
pub(in crate::controller) struct Links {
    links: Vec<Link>,
    ifindexes: BTreeMap<String, u32>,
}

impl Links {
    /// The links of a host.
    pub(super) fn new(mut links: Vec<Link>) -> Self {
        links.sort_by_key(|link| link.ifindex);
        // A list that changes while it is read may have a link twice.
        links.dedup_by_key(|link| link.ifindex);
        let ifindexes = links.iter().map(|link| (link.name.clone(), link.ifindex)).collect();
        Self { links, ifindexes }
    }

    /// All of them.
    pub(super) fn as_slice(&self) -> &[Link] {
        &self.links
    }

    /// The number of each, by its name.
    pub(super) fn ifindexes(&self) -> &BTreeMap<String, u32> {
        &self.ifindexes
    }

    /// The link of that number.
    pub(super) fn get(&self, ifindex: u32) -> Option<&Link> {
        let place = self.links.binary_search_by_key(&ifindex, |link| link.ifindex).ok()?;
        self.links.get(place)
    }

    /// The link of that name.
    pub(super) fn named(&self, name: &str) -> Option<&Link> {
        self.get(*self.ifindexes.get(name)?)
    }

    /// Takes up what has become of a link, which may be gone; says whether that is news.
    pub(super) fn set(&mut self, ifindex: u32, link: Option<Link>) -> bool {
        let place = self.links.binary_search_by_key(&ifindex, |link| link.ifindex);
        if place.ok().and_then(|place| self.links.get(place)) == link.as_ref() {
            return false;
        }
        if let Ok(place) = place {
            let before = self.links.remove(place);
            // Another one may have been given the name meanwhile.
            if self.ifindexes.get(&before.name) == Some(&ifindex) {
                self.ifindexes.remove(&before.name);
            }
        }
        if let Some(link) = link {
            self.ifindexes.insert(link.name.clone(), ifindex);
            self.links.insert(place.unwrap_or_else(|place| place), link);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Link, Links};

    fn link(ifindex: u32, name: &str) -> Link {
        Link { ifindex, name: name.to_owned(), ..Link::default() }
    }

    #[test]
    fn a_link_is_found_by_its_name_until_it_has_another() {
        let mut links = Links::new(vec![link(7, "b"), link(3, "a")]);
        assert!(!links.set(3, Some(link(3, "a"))));
        assert!(links.set(5, Some(link(5, "c"))));
        let names: Vec<&str> = links.as_slice().iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["a", "c", "b"]);
        // The two change their names with each other.
        assert!(links.set(3, Some(link(3, "b"))));
        assert!(links.set(7, Some(link(7, "a"))));
        assert_eq!(["a", "b", "c"].map(|name| links.named(name).unwrap().ifindex), [7, 3, 5]);
        assert!(links.set(7, None));
        assert!(!links.set(7, None));
        assert_eq!(links.named("a"), None);
        assert_eq!(links.get(3), links.named("b"));
    }
}
