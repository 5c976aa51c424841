//! What flows carry: messages of one length, each of which tells its flow, its number and its direction.

/// How long a message is.
pub const LEN_BYTES: usize = 64;

/// A message as it is on the wire.
pub type Message = [u8; LEN_BYTES];

/// What the asking end of a flow says for the `number`th time.
pub fn question(flow: u32, number: u32) -> Message {
    repeated(u64::from(flow) << 32 | u64::from(number))
}

/// What it is to be answered.
pub fn answer(flow: u32, number: u32) -> Message {
    question(flow, number).map(|byte| !byte)
}

/// The flow that a question is of.
pub fn flow_of([a, b, c, d, ..]: Message) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

fn repeated(word: u64) -> Message {
    let bytes = word.to_be_bytes();
    std::array::from_fn(|at| bytes[at % bytes.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_its_flow_its_number_and_its_direction() {
        assert_eq!(flow_of(question(70_000, 3)), 70_000);
        let all = [question(1, 2), question(2, 1), answer(1, 2), question(1, 3)];
        for (at, message) in all.iter().enumerate() {
            assert!(!all[..at].contains(message), "{message:?}");
        }
    }
}
