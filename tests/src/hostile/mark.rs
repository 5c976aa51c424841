//! What a packet of the attack is known by, wherever it turns up and whatever it has become.
//!
//! Eight bytes: four of the run, four with the packet's number, repeated all over the payload. So one of
//! them is in every fragment of 16 bytes, and in what an ICMP error quotes. A packet is made again from
//! its number; nothing of what was sent has to be kept.

use super::arrival::Ports;

/// Length of a mark. Units: bytes.
pub const LEN: usize = 8;

/// From here on numbers are those of controls, not of the attack.
const FIRST_CONTROL: u32 = 0x8000_0000;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The packet of the attack with this number.
    Attack(u32),
    /// A control with this number: a packet that has to arrive.
    Control(u32),
    /// A packet of the run whose number has been cut off, or translated.
    CutOff,
}

/// The marks of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    run: [u8; 4],
}

impl Marks {
    /// Marks for the run that `seed` stands for. None of their bytes is zero, which padding is.
    pub fn new(seed: u64) -> Self {
        let mut random = super::random::Random::of_packet(seed, u32::MAX);
        Self { run: random.bytes::<4>().map(|byte| byte | 0x81) }
    }

    /// The bytes of a mark.
    pub fn bytes(self, mark: Mark) -> [u8; LEN] {
        let number = match mark {
            Mark::Attack(number) => number,
            Mark::Control(number) => FIRST_CONTROL + number,
            Mark::CutOff => 0,
        };
        let (run, number) = (self.run, number.to_be_bytes());
        std::array::from_fn(|at| if at < 4 { run[at] } else { number[at - 4] })
    }

    /// The mark in a frame with these ports: one that is there twice, else the last one. Where a trick has
    /// moved a header onto a mark, a translation may have changed that one; if it is the only one, nobody
    /// can say which number it had.
    pub fn find(self, frame: &[u8], ports: Option<Ports>) -> Option<Mark> {
        let starts = (0..frame.len().saturating_sub(self.run.len() - 1))
            // The first byte alone decides most of the time.
            .filter(|at| frame[*at] == self.run[0] && frame[*at..*at + 4] == self.run);
        let (mut last, mut is_alone) = (None, true);
        for at in starts {
            let Some(mark) = frame.get(at + 4..at + LEN).map(numbered) else {
                return last.or(Some(Mark::CutOff));
            };
            is_alone = last.is_none();
            if last.replace(mark) == Some(mark) {
                break;
            }
        }
        let is_header = ports.is_some_and(|(_, sport, dport)| self.are_ports(sport, dport));
        if is_alone && is_header { last.and(Some(Mark::CutOff)) } else { last }
    }

    /// Whether a mark stands where the ports are.
    fn are_ports(self, sport: u16, dport: u16) -> bool {
        let [a, b, c, d] = self.run;
        [sport, dport] == [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    }
}

fn numbered(number: &[u8]) -> Mark {
    let number = number.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    match number.checked_sub(FIRST_CONTROL) {
        Some(control) => Mark::Control(control),
        None => Mark::Attack(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_it_stands() {
        let marks = Marks::new(7);
        for mark in [Mark::Attack(0x0102_0304), Mark::Control(5)] {
            let frame = [&[0; 33][..], &marks.bytes(mark)].concat();
            assert_eq!(marks.find(&frame, None), Some(mark));
            assert_eq!(marks.find(&frame[..39], None), Some(Mark::CutOff));
            assert_eq!(marks.find(&frame[..33], None), None);
            assert_eq!(Marks::new(8).find(&frame, None), None, "another run's");
        }
    }

    #[test]
    fn a_mark_that_became_a_header_is_not_believed_alone() {
        let marks = Marks::new(7);
        let mark = marks.bytes(Mark::Attack(0x0102_0304));
        let [sport, dport] = [0, 2].map(|at| u16::from_be_bytes([mark[at], mark[at + 1]]));
        let ports = Some((17, sport, dport));
        // An option list as long as a header can be, and a datagram of eight bytes.
        let frame = [&[0; 74][..], &mark].concat();
        assert_eq!(marks.find(&frame, ports), Some(Mark::CutOff));
        assert_eq!(marks.find(&frame, Some((17, sport, 7))), Some(Mark::Attack(0x0102_0304)));
        let followed = [&frame[..], &mark].concat();
        assert_eq!(marks.find(&followed, ports), Some(Mark::Attack(0x0102_0304)));
    }
}
