//! What the daemon reads from somebody else, tried with the inputs that a fuzzer found worth keeping
//! (`tests/fuzz`): a panic is the failure, and says which.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

mod targets;

use std::{fs, panic, path::Path};

#[test]
fn every_input_that_was_kept_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let corpus = corpora.join(name);
        let inputs = fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
        let mut tried = 0;
        for input in inputs {
            let path = input.unwrap().path();
            let data = fs::read(&path).unwrap();
            let result = panic::catch_unwind(|| target(&data));
            assert!(result.is_ok(), "{}", path.display());
            tried += 1;
        }
        assert!(tried > 0, "no inputs in {}", corpus.display());
    }
}
