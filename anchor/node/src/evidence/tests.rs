use super::*;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::evidence::{Said, Vote};
use std::time::Instant;

/// Two votes of a validator in an epoch.
fn votes(validator: u8, epoch: u64) -> Evidence {
    let key = SecretKey::from_bytes(&[validator; 32]).unwrap();
    let vote = |payload: u8| {
        let said = Said::Notarize { parent: 1, payload: [payload; 32] };
        Vote { said, signature: key.sign(&said.message(&[7; 32], epoch, 2)) }
    };
    let (first, second) = (vote(1), vote(2));
    Evidence::DoubleVote {
        changes: Vec::new(),
        key: key.public_key(),
        epoch,
        view: 2,
        first,
        second,
    }
}

fn names(folder: &Folder) -> Vec<String> {
    folder.files().unwrap().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn of_each_validator_and_epoch_there_is_one_file_which_stays() {
    let data = tempfile::tempdir().unwrap();
    let folder = Folder::of(data.path());
    assert!(names(&folder).is_empty() && !data.path().join(FOLDER).exists());
    let first = votes(1, 3);
    let path = folder.keep(&first).unwrap().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(Evidence::from_json(&text), Ok(first));
    // Another pair of the same epoch, after a restart.
    let Evidence::DoubleVote { changes, key, epoch, first, second, .. } = votes(1, 3) else {
        panic!("votes")
    };
    let again = Evidence::DoubleVote { changes, key, epoch, view: 9, first, second };
    assert_eq!(Folder::of(data.path()).keep(&again).unwrap(), None);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert!(folder.keep(&votes(1, 4)).unwrap().is_some());
    assert!(folder.keep(&votes(2, 3)).unwrap().is_some());
    let names = names(&folder);
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.starts_with("evidence-double_vote-")));
    let (name, bytes) = folder.files().unwrap().swap_remove(0);
    assert_eq!(folder.read(&name).unwrap().unwrap().len() as u64, bytes);
}

/// A crash leaves no file or a whole one; what the disk spoilt is written again when it is caught again.
#[test]
fn what_is_torn_or_spoilt_is_no_evidence_and_is_made_again() {
    let data = tempfile::tempdir().unwrap();
    let (folder, evidence) = (Folder::of(data.path()), votes(1, 3));
    let path = folder.path(&name_of(&evidence).unwrap());
    let whole = evidence.to_json();
    for spoilt in [&whole[..whole.len() / 2], "", "{}"] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As a crash leaves it before the rename, and as a disk may leave it after.
        std::fs::write(path.with_extension("new"), spoilt).unwrap();
        assert_eq!(names(&folder).len(), usize::from(path.exists()));
        std::fs::write(&path, spoilt).unwrap();
        assert_eq!(folder.keep(&evidence).unwrap(), Some(path.clone()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        assert_eq!(names(&folder).len(), 1);
    }
}

#[test]
fn no_more_files_are_written_than_the_limit_and_only_evidence_is_read() {
    let data = tempfile::tempdir().unwrap();
    let folder = Folder::of(data.path());
    let kept = folder.keep(&votes(1, 0)).unwrap().unwrap();
    for other in 1..FILES_MAX {
        std::fs::write(folder.path(&format!("evidence-fork-{other:08x}.json")), "{}").unwrap();
    }
    assert_eq!(names(&folder).len(), FILES_MAX);
    let error = folder.keep(&votes(2, 0)).unwrap_err().to_string();
    assert!(error.contains("1000 files") && error.contains("move away"), "{error}");
    // What is there is not counted again, and what is moved away makes room.
    assert_eq!(folder.keep(&votes(1, 0)).unwrap(), None);
    std::fs::remove_file(kept).unwrap();
    assert!(folder.keep(&votes(2, 0)).unwrap().is_some());
    std::fs::write(data.path().join("evidence-secret.json"), "secret").unwrap();
    for name in [
        "../evidence-secret.json",
        "evidence-/../../evidence-secret.json",
        "evidence-a.new",
        "key.pem",
        "",
    ] {
        assert_eq!(folder.read(name).unwrap(), None, "{name}");
    }
    std::fs::write(folder.path("evidence-long.json"), vec![b' '; FILE_MAX + 1]).unwrap();
    assert!(folder.read("evidence-long.json").unwrap_err().to_string().contains("longer than"));
}

/// Waits until something is true.
fn wait(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(300);
    while !done() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn unsaved(metrics: &Metrics) -> String {
    let text = metrics.text();
    let line = text.lines().find(|line| line.starts_with("piaogen_evidence_unsaved "));
    line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
}

#[test]
fn a_disk_that_fails_is_tried_again_and_holds_nobody_up() {
    let data = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let keeper = Arc::new(Keeper::new(data.path(), metrics.clone()));
    // What is no folder takes no file.
    std::fs::write(data.path().join(FOLDER), "in the way").unwrap();
    let writing = keeper.clone();
    let writer = std::thread::spawn(move || writing.run());
    for validator in 1..4 {
        keeper.caught(votes(validator, 0));
    }
    wait("it was tried", || keeper.waiting().pieces.iter().filter(|one| one.logged).count() == 3);
    assert_eq!(unsaved(&metrics), "3");
    // More than a set can have: what waits is bounded.
    for epoch in 1..=WAITING_MAX as u64 {
        keeper.caught(votes(9, epoch));
    }
    assert!(keeper.waiting().pieces.len() <= WAITING_MAX);
    std::fs::remove_file(data.path().join(FOLDER)).unwrap();
    wait("the disk takes it", || unsaved(&metrics) == "0");
    let names = names(keeper.folder());
    assert!(names.len() > 3 && names.len() <= WAITING_MAX + 3, "{}", names.len());
    keeper.end();
    writer.join().unwrap();
}

#[test]
fn what_was_caught_is_written_before_the_end_and_what_cannot_be_does_not_keep_it_from_ending() {
    for fails in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(data.path(), Arc::new(Metrics::new().unwrap()));
        if fails {
            std::fs::write(data.path().join(FOLDER), "in the way").unwrap();
        }
        keeper.caught(votes(1, 0));
        keeper.end();
        keeper.run();
        let there = Folder::of(data.path()).files().map_or(0, |files| files.len());
        assert_eq!(there, usize::from(!fails));
    }
}
