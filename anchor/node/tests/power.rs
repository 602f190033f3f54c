//! Power cuts of a mirror: whatever a disk may have kept at any moment, what the head names is there,
//! and the next pull goes on from it.
//!
//! What a mirror does to its disk is noted, operation by operation, and each beginning of that is
//! played on a model of a disk. What was synced stays. Of what was not, a file has its old bytes, the
//! new ones, a torn beginning of them or zeros, and each change of a name in a folder is kept or lost,
//! whatever became of those before it. A process that is killed loses nothing of this; the next one
//! goes on from files that are there and need not be durable.
//!
//! The controls show that this finds something: the same on a disk that forgets some of its syncs.

#![allow(clippy::unwrap_used)]

#[path = "common/headers.rs"]
mod headers;

use headers::{Chain, NONE};
use piaogen_node::disk::{Disk, Plain};
use piaogen_node::mirror::{Mirror, Pulled, check};
use piaogen_node::site::Site;
use piaogen_verify::tiles::Head;
use piaogen_verify::trust_root::TrustRoot;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Result as Done;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was done to a disk, paths below the folder of the mirror.
#[derive(Clone, Debug)]
enum Op {
    Folder(PathBuf),
    Write(PathBuf, Vec<u8>),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveFolder(PathBuf),
}

/// The disk of this machine, and what was done to it, in order; syncs are noted only.
#[derive(Debug)]
struct Noting {
    dir: PathBuf,
    ops: Mutex<Vec<Op>>,
}

impl Noting {
    fn new(dir: &Path) -> Arc<Noting> {
        Arc::new(Noting { dir: dir.to_path_buf(), ops: Mutex::default() })
    }

    fn note(
        &self,
        act: impl FnOnce() -> Done<()>,
        op: impl FnOnce(&dyn Fn(&Path) -> PathBuf) -> Op,
    ) -> Done<()> {
        let mut ops = self.ops.lock().unwrap();
        act()?;
        ops.push(op(&|path| path.strip_prefix(&self.dir).unwrap().to_path_buf()));
        Ok(())
    }
}

impl Disk for Noting {
    fn create_folder(&self, path: &Path) -> Done<()> {
        self.note(|| Plain.create_folder(path), |below| Op::Folder(below(path)))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Done<()> {
        self.note(|| Plain.write(path, bytes), |below| Op::Write(below(path), bytes.to_vec()))
    }

    fn sync(&self, path: &Path) -> Done<()> {
        self.note(|| Ok(()), |below| Op::Sync(below(path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Done<()> {
        self.note(|| Plain.rename(from, to), |below| Op::Rename(below(from), below(to)))
    }

    fn remove(&self, path: &Path) -> Done<()> {
        self.note(|| Plain.remove(path), |below| Op::Remove(below(path)))
    }

    fn remove_folder(&self, path: &Path) -> Done<()> {
        self.note(|| Plain.remove_folder(path), |below| Op::RemoveFolder(below(path)))
    }
}

/// Changes of names that come together: which node a name has from now on, if any.
type Change = Vec<(String, Option<usize>)>;

#[derive(Clone, Debug)]
enum Node {
    Folder { durable: BTreeMap<String, usize>, pending: Vec<Change> },
    File { durable: Vec<u8>, pending: Option<Vec<u8>> },
}

/// A disk with one folder, the root, that is durable.
#[derive(Clone)]
struct Model(Vec<Node>);

/// What becomes of all that was not synced.
enum Fate<'a> {
    Lost,
    Kept,
    Any(&'a mut Dice),
}

/// What is there: files with their bytes, and folders.
type There = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    for (name, node) in change {
        names.remove(name);
        names.extend(node.map(|node| (name.clone(), node)));
    }
}

impl Model {
    fn new() -> Model {
        Model(vec![Node::Folder { durable: BTreeMap::new(), pending: Vec::new() }])
    }

    /// The names of a folder as the process sees them.
    fn names(&self, folder: usize) -> BTreeMap<String, usize> {
        let Node::Folder { durable, pending } = &self.0[folder] else { panic!("a folder") };
        let mut names = durable.clone();
        pending.iter().for_each(|change| apply(&mut names, change));
        names
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.iter().try_fold(0, |at, name| self.names(at).get(name.to_str().unwrap()).copied())
    }

    fn change(&mut self, folder: &Path, change: Change) {
        let at = self.find(folder).unwrap();
        let Node::Folder { pending, .. } = &mut self.0[at] else { panic!("a folder") };
        pending.push(change);
    }

    fn make(&mut self, path: &Path, node: Node) {
        self.0.push(node);
        let made = Some(self.0.len() - 1);
        self.change(path.parent().unwrap(), vec![(name_of(path), made)]);
    }

    /// `forgets` are syncs that the disk says it did.
    fn play(&mut self, op: &Op, forgets: fn(&Path) -> bool) {
        match op {
            Op::Sync(path) if forgets(path) => {}
            Op::Folder(path) => {
                let above: Vec<&Path> = path.ancestors().collect();
                for folder in above.into_iter().rev() {
                    if self.find(folder).is_none() {
                        let (durable, pending) = (BTreeMap::new(), Vec::new());
                        self.make(folder, Node::Folder { durable, pending });
                    }
                }
            }
            Op::Write(path, bytes) => {
                if self.find(path).is_none() {
                    self.make(path, Node::File { durable: Vec::new(), pending: None });
                }
                let at = self.find(path).unwrap();
                let Node::File { pending, .. } = &mut self.0[at] else { panic!("a file") };
                *pending = Some(bytes.clone());
            }
            Op::Sync(path) => {
                let at = self.find(path).unwrap();
                match &mut self.0[at] {
                    Node::File { durable, pending } => {
                        *durable = pending.take().unwrap_or_else(|| durable.clone())
                    }
                    Node::Folder { durable, pending } => {
                        pending.drain(..).for_each(|change| apply(durable, &change));
                    }
                }
            }
            Op::Rename(from, to) => {
                let node = self.find(from);
                let change = vec![(name_of(from), None), (name_of(to), node)];
                self.change(from.parent().unwrap(), change);
            }
            Op::Remove(path) | Op::RemoveFolder(path) => {
                self.change(path.parent().unwrap(), vec![(name_of(path), None)]);
            }
        }
    }

    /// What is there when this becomes of all that was not synced.
    fn left(&self, mut fate: Fate<'_>) -> There {
        let (mut there, mut open) = (There::new(), vec![(PathBuf::new(), 0)]);
        while let Some((path, node)) = open.pop() {
            match &self.0[node] {
                Node::File { durable, pending } => {
                    let new = pending.as_ref().unwrap_or(durable);
                    let bytes = match &mut fate {
                        Fate::Lost => durable.clone(),
                        Fate::Kept => new.clone(),
                        Fate::Any(dice) => match dice.below(4) {
                            _ if pending.is_none() => durable.clone(),
                            0 => new.clone(),
                            1 => new[..dice.below(new.len() + 1)].to_vec(),
                            2 => vec![0; new.len()],
                            _ => durable.clone(),
                        },
                    };
                    there.insert(path, Some(bytes));
                }
                Node::Folder { durable, pending } => {
                    let mut names = durable.clone();
                    for change in pending {
                        let kept = match &mut fate {
                            Fate::Lost => false,
                            Fate::Kept => true,
                            Fate::Any(dice) => dice.below(2) == 0,
                        };
                        if kept {
                            apply(&mut names, change);
                        }
                    }
                    open.extend(names.into_iter().map(|(name, node)| (path.join(name), node)));
                    there.insert(path, None);
                }
            }
        }
        there
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().into()
}

/// Makes a folder what it was left as.
fn lay_out(dir: &Path, there: &There) {
    for (path, bytes) in there {
        let path = dir.join(path);
        match bytes {
            None => std::fs::create_dir_all(path).unwrap(),
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
        }
    }
}

/// What was done in some pulls, how much of it at the end of each, and what the sources were; the last
/// of these was not pulled yet.
struct Story {
    trust: TrustRoot,
    ops: Vec<Op>,
    pulls: Vec<(usize, u64)>,
    sites: Vec<PathBuf>,
    dir: tempfile::TempDir,
}

/// A process that pulls once; what it did.
fn pull(dir: &Path, trust: &TrustRoot, site: &Path) -> Result<(u64, Vec<Op>), String> {
    let disk = Noting::new(dir);
    let site = Site::open(site.to_str().unwrap(), "", Duration::from_secs(9)).unwrap();
    let mirror = Mirror::open_on(disk.clone(), dir, trust);
    let pulled = mirror.and_then(|mut mirror| mirror.pull(&site));
    match pulled.map_err(|error| format!("{error:#}"))? {
        Pulled::Grown { height, .. } => Ok((height, std::mem::take(&mut disk.ops.lock().unwrap()))),
        other => Err(format!("{other:?}")),
    }
}

impl Story {
    /// From one tile to several, over one that becomes full.
    fn tell() -> Story {
        let chain = Chain::growing(10, [40, 0, 7]);
        let dir = tempfile::tempdir().unwrap();
        let (to, trust) = (dir.path().join("m"), chain.trust());
        let (mut ops, mut pulls, mut sites) = (Vec::new(), Vec::new(), Vec::new());
        for height in [3, 7, 9, 10] {
            let site = dir.path().join(format!("site-{height}"));
            chain.publish(&site, height, NONE);
            sites.push(site);
        }
        for site in &sites[..3] {
            let (height, more) = pull(&to, &trust, site).unwrap();
            ops.extend(more);
            pulls.push((ops.len(), height));
        }
        Story { trust, ops, pulls, sites, dir }
    }

    /// The disk after each operation, from none on. `forgets` are syncs that the disk says it did.
    fn disks(&self, forgets: fn(&Path) -> bool) -> Vec<Model> {
        let mut model = Model::new();
        let mut disks = vec![model.clone()];
        for op in &self.ops {
            model.play(op, forgets);
            disks.push(model.clone());
        }
        disks
    }

    /// The heights that a head may have after so many operations: that of the last pull that ended,
    /// or of the one on its way.
    fn heights(&self, done: usize) -> [Option<u64>; 2] {
        let ended = self.pulls.iter().filter(|(end, _)| *end <= done).count();
        [ended.checked_sub(1), Some(ended)]
            .map(|pull| pull.and_then(|pull| self.pulls.get(pull)).map(|(_, height)| *height))
    }

    /// Whether what a power cut left is as promised, and the mirror goes on from it.
    fn holds(&self, heights: &[Option<u64>], there: &There) -> Result<(), String> {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        lay_out(dir.path(), there);
        let head = height(dir.path())?;
        if !heights.contains(&head) {
            return Err(format!("the head is {head:?} and not of {heights:?}"));
        }
        let checked = || check(dir.path(), &self.trust).map_err(|error| format!("{error:#}"));
        if head.is_some() {
            checked()?;
        }
        let newest = self.sites.last().unwrap();
        pull(dir.path(), &self.trust, newest)?;
        checked()?;
        let (whole, kept) = (all(newest), all(dir.path()));
        if let Some(path) = whole.iter().find(|path| !kept.contains(*path)) {
            return Err(format!("{} is missing", path.display()));
        }
        // What else is there, is of a head before.
        match kept.iter().find(|path| !whole.contains(*path) && path.extension().is_some()) {
            Some(path) => Err(format!("{} was left", path.display())),
            None => Ok(()),
        }
    }

    /// How many different things a power cut may leave, and one of them that is not as promised.
    fn failure(&self, seeds: u64, forgets: fn(&Path) -> bool) -> (usize, Option<String>) {
        let mut seen = BTreeSet::new();
        for (done, disk) in self.disks(forgets).iter().enumerate() {
            let mut dice: Vec<Dice> =
                (0..seeds).map(|seed| Dice(seed << 32 | done as u64)).collect();
            let fates = dice.iter_mut().map(Fate::Any).chain([Fate::Lost]);
            for there in fates.map(|fate| disk.left(fate)) {
                let heights = self.heights(done);
                let seen_before = seen.contains(&(heights, there.clone()));
                if !seen_before && let Err(error) = self.holds(&heights, &there) {
                    return (seen.len(), Some(self.after(done, &error)));
                }
                seen.insert((heights, there));
            }
        }
        (seen.len(), None)
    }

    fn after(&self, done: usize, error: &str) -> String {
        let last = done.checked_sub(1).map(|last| match &self.ops[last] {
            Op::Write(path, _) => format!("writing {}", path.display()),
            op => format!("{op:?}"),
        });
        format!("after {done} operations, the last {last:?}: {error}")
    }
}

fn height(dir: &Path) -> Result<Option<u64>, String> {
    let Ok(bytes) = std::fs::read(dir.join("v1/head")) else { return Ok(None) };
    let head = Head::decode(&bytes).map_err(|error| format!("v1/head: {error}"))?;
    Ok(Some(head.header.height))
}

/// The files that a web server would hand out.
fn all(dir: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![dir.join("v1")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_path_buf());
            }
        }
    }
    found
}

const NEVER: fn(&Path) -> bool = |_| false;

#[test]
fn a_power_cut_at_any_moment_leaves_a_mirror_that_is_right_and_goes_on() {
    let story = Story::tell();
    let (cuts, failure) = story.failure(2, NEVER);
    assert_eq!(failure, None, "after {cuts} others");
    assert!(cuts > story.ops.len() / 2, "{cuts} of {} operations", story.ops.len());
}

/// What a killed process had written and not synced is taken up by the next one, which hands it out.
#[test]
fn what_a_killed_process_left_is_durable_when_a_head_names_it() {
    let story = Story::tell();
    let disks = story.disks(NEVER);
    for (done, disk) in disks[..story.ops.len()].iter().enumerate() {
        let dir = tempfile::tempdir_in(story.dir.path()).unwrap();
        lay_out(dir.path(), &disk.left(Fate::Kept));
        let ended = story.pulls.iter().filter(|(end, _)| *end <= done).count();
        let (height, ops) = pull(dir.path(), &story.trust, &story.sites[ended]).unwrap();
        let mut disk = disk.clone();
        ops.iter().for_each(|op| disk.play(op, NEVER));
        // Where the head was there, its name need not be durable.
        let heights = story.heights(done);
        assert_eq!(heights[1], Some(height));
        let heights = if ops.is_empty() { &heights[..] } else { &heights[1..] };
        let held = story.holds(heights, &disk.left(Fate::Lost));
        assert_eq!(held.map_err(|error| story.after(done, &error)), Ok(()));
    }
}

/// A disk that forgets a kind of sync breaks what was promised, and that is found.
#[test]
fn a_disk_that_forgets_is_found_out() {
    let story = Story::tell();
    type Control<'a> = (&'a str, fn(&Path) -> bool);
    let controls: [Control<'_>; 4] = [
        ("bytes", |path| path.extension().is_some()),
        ("names of tiles", |path| path.starts_with("v1/tiles")),
        ("names of folders", |path| path == Path::new("")),
        ("name of the head", |path| path == Path::new("v1")),
    ];
    for (what, forgets) in controls {
        let (cuts, failure) = story.failure(0, forgets);
        assert!(failure.is_some(), "{what} need no sync in any of {cuts}");
    }
}
