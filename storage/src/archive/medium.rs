//! Where an archive lies: a local folder or an object store, behind a few operations.
//!
//! The operations are those whose order makes sealing safe, so that a test can fail each of them
//! before or after it took effect. They block; an object store has a small runtime of its own, so
//! that callers need none.
//!
//! Invariants
//! - `put` and `publish` are atomic, and durable when they return.
//! - Failures of a local disk are fatal; those of an object store are busy: it may come back.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{During, Result, StoreError};
use crate::files::{create_folder, delete, sync_folder, write_durably};

/// Bytes of one part of an upload, and of one step of a download.
const PART: usize = 8 << 20;
/// Parts of one upload on their way at the same time.
const PARTS_AT_ONCE: usize = 4;
/// Bytes fetched at once where a reader does not say how many it needs.
const READ_AHEAD: usize = 64 << 10;

/// What an archive asks of the place where it lies. Paths are relative, with `/`.
pub(crate) trait Medium: Send + Sync {
    /// All paths that begin with this folder, sorted.
    fn list(&self, folder: &str) -> Result<Vec<String>>;
    /// The content of a small object; `None` where there is none.
    fn read(&self, path: &str) -> Result<Option<Bytes>>;
    /// Writes a small object.
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()>;
    /// A name for a file that is being written, on a local disk.
    fn scratch(&self) -> Result<PathBuf>;
    /// Makes the bytes of a scratch file durable where that matters.
    fn sync(&self, file: &File, scratch: &Path) -> Result<()>;
    /// Gives a scratch file its name in the archive; the scratch file is gone then.
    fn publish(&self, scratch: &Path, path: &str) -> Result<()>;
    /// Removes an object, if it is there.
    fn delete(&self, path: &str) -> Result<()>;
    /// Opens an object for reading parts of it; `None` where there is none.
    fn open(&self, path: &str) -> Result<Option<Ranged>>;
    /// Opens an object for reading all of it; `None` where there is none.
    fn open_whole(&self, path: &str) -> Result<Option<File>>;
    /// Removes what a crash left in the scratch folder.
    fn clear_scratch(&self) -> Result<()>;
    /// The same place for asynchronous readers: a store, and the archive's path in it.
    fn store(&self) -> (Arc<dyn ObjectStore>, StorePath);
    /// A path for messages.
    fn name(&self, path: &str) -> String;
}

/// Opens the medium that a location names: a folder, `file://` or a URL of an object store.
pub(crate) fn open(
    location: &str,
    options: &BTreeMap<String, String>,
    scratch: Option<&Path>,
    create: bool,
) -> Result<Arc<dyn Medium>> {
    let Some((scheme, rest)) = location.split_once("://") else {
        return Ok(Arc::new(Local::open(Path::new(location), create)?));
    };
    if scheme == "file" {
        return Ok(Arc::new(Local::open(Path::new(rest), create)?));
    }
    let refuse = |error: &dyn std::fmt::Display| {
        StoreError::Refused(format!(
            "{location:?} is no location of an archive: {error}; give a folder, or a URL such as \
             s3://bucket/prefix with its options"
        ))
    };
    let url = location.parse().map_err(|error: url::ParseError| refuse(&error))?;
    let (store, prefix) =
        object_store::parse_url_opts(&url, options).map_err(|error| refuse(&error))?;
    Ok(Arc::new(Remote::new(Arc::from(store), prefix, scratch)?))
}

static SCRATCH: AtomicU64 = AtomicU64::new(0);

/// A name that no other thread of this process uses.
fn scratch_in(folder: &Path) -> PathBuf {
    let n = SCRATCH.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{}-{n}.tmp", std::process::id()))
}

/// An archive in a folder.
pub(crate) struct Local {
    root: PathBuf,
    store: Arc<LocalFileSystem>,
}

impl Local {
    pub(crate) fn open(root: &Path, create: bool) -> Result<Self> {
        if create {
            create_folder(&root.join("tmp"))?;
        } else if !root.is_dir() {
            return Err(StoreError::Refused(format!(
                "there is no archive at {}: no such folder",
                root.display()
            )));
        }
        let root = root.canonicalize().at("find", root)?;
        let store = LocalFileSystem::new_with_prefix(&root).at("open", &root)?;
        Ok(Self { root, store: Arc::new(store) })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn rename(&self, from: &Path, path: &str) -> Result<()> {
        let to = self.path(path);
        let folder = to.parent().unwrap_or(&self.root);
        let mut missing = Vec::new();
        for above in folder.ancestors().take_while(|above| !above.exists()) {
            missing.push(above);
        }
        create_folder(folder)?;
        std::fs::rename(from, &to).at("rename to", &to)?;
        sync_folder(folder)?;
        // New folders are durable once the folders above them are.
        missing.iter().filter_map(|folder| folder.parent()).try_for_each(sync_folder)
    }

    fn walk(&self, folder: &Path, found: &mut Vec<String>) -> Result<()> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.at("list", folder)?,
        };
        for entry in entries {
            let path = entry.at("list", folder)?.path();
            if path.is_dir() {
                self.walk(&path, found)?;
            } else if let Ok(relative) = path.strip_prefix(&self.root) {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }

    fn existing(&self, path: &str) -> Result<Option<File>> {
        let path = self.path(path);
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            file => file.at("open", &path).map(Some),
        }
    }
}

impl Medium for Local {
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.walk(&self.path(folder), &mut found)?;
        found.sort();
        Ok(found)
    }

    fn read(&self, path: &str) -> Result<Option<Bytes>> {
        let Some(mut file) = self.existing(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &self.path(path))?;
        Ok(Some(bytes.into()))
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let scratch = self.scratch()?;
        write_durably(&scratch, bytes)?;
        self.rename(&scratch, path)
    }

    fn scratch(&self) -> Result<PathBuf> {
        Ok(scratch_in(&self.root.join("tmp")))
    }

    fn sync(&self, file: &File, scratch: &Path) -> Result<()> {
        file.sync_all().at("sync", scratch)
    }

    fn publish(&self, scratch: &Path, path: &str) -> Result<()> {
        self.rename(scratch, path)
    }

    fn delete(&self, path: &str) -> Result<()> {
        delete(&self.path(path))
    }

    fn open(&self, path: &str) -> Result<Option<Ranged>> {
        let Some(file) = self.existing(path)? else { return Ok(None) };
        let length = file.metadata().at("open", &self.path(path))?.len();
        Ok(Some(Ranged { source: Source::Local(Arc::new(file)), length }))
    }

    fn open_whole(&self, path: &str) -> Result<Option<File>> {
        self.existing(path)
    }

    fn clear_scratch(&self) -> Result<()> {
        let mut left = Vec::new();
        self.walk(&self.root.join("tmp"), &mut left)?;
        left.iter().try_for_each(|path| self.delete(path))
    }

    fn store(&self) -> (Arc<dyn ObjectStore>, StorePath) {
        (self.store.clone(), StorePath::default())
    }

    fn name(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }
}

/// The runtime of an object store. Dropping one inside another runtime must not block.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Runtime {
    fn new() -> Result<Self> {
        let built = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("archive")
            .enable_all()
            .build();
        Ok(Self(Some(built.during(|| "cannot start the archive's runtime".into())?)))
    }

    /// Runs to completion, from any thread, whether or not it belongs to another runtime.
    fn wait<T, F>(&self, work: F) -> object_store::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let stopped = || object_store::Error::Generic {
            store: "archive",
            source: "the archive's runtime has stopped".into(),
        };
        let runtime = self.0.as_ref().ok_or_else(stopped)?;
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Nobody waits any more if this fails.
            let _ = send.send(work.await);
        });
        receive.recv().map_err(|_| stopped())?
    }
}

/// An archive in an object store.
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: StorePath,
    scratch: PathBuf,
    runtime: Arc<Runtime>,
}

impl Remote {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        prefix: StorePath,
        scratch: Option<&Path>,
    ) -> Result<Self> {
        let scratch =
            scratch.map_or_else(|| std::env::temp_dir().join("piaogen-archive"), Into::into);
        create_folder(&scratch)?;
        Ok(Self { store, prefix, scratch, runtime: Arc::new(Runtime::new()?) })
    }

    fn path(&self, path: &str) -> StorePath {
        path.split('/').fold(self.prefix.clone(), |at, part| at.join(part))
    }

    fn busy(&self, action: &str, path: &str) -> impl Fn(object_store::Error) -> StoreError {
        let what = format!("cannot {action} {}", self.name(path));
        move |error| StoreError::Busy(format!("{what}: {error}; it will be tried again"))
    }

    fn found<T>(&self, path: &str, result: object_store::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.busy("read", path)(error)),
        }
    }
}

impl Medium for Remote {
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let (store, prefix) = (self.store.clone(), self.path(folder));
        let all = self
            .runtime
            .wait(async move { store.list(Some(&prefix)).try_collect::<Vec<_>>().await })
            .map_err(self.busy("list", folder))?;
        let under = self.prefix.as_ref();
        let relative = |meta: &object_store::ObjectMeta| {
            let path = meta.location.as_ref().strip_prefix(under)?;
            Some(path.strip_prefix('/').unwrap_or(path).to_owned())
        };
        let mut found: Vec<String> = all.iter().filter_map(relative).collect();
        found.sort();
        Ok(found)
    }

    fn read(&self, path: &str) -> Result<Option<Bytes>> {
        let (store, at) = (self.store.clone(), self.path(path));
        let read = self.runtime.wait(async move { store.get(&at).await?.bytes().await });
        self.found(path, read)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let (store, at) = (self.store.clone(), self.path(path));
        let bytes = Bytes::copy_from_slice(bytes);
        let put = self.runtime.wait(async move { store.put(&at, bytes.into()).await });
        put.map(|_| ()).map_err(self.busy("write", path))
    }

    fn scratch(&self) -> Result<PathBuf> {
        Ok(scratch_in(&self.scratch))
    }

    /// The scratch file need not survive: the object is durable when its upload is complete.
    fn sync(&self, _file: &File, _scratch: &Path) -> Result<()> {
        Ok(())
    }

    fn publish(&self, scratch: &Path, path: &str) -> Result<()> {
        let (store, at, from) = (self.store.clone(), self.path(path), scratch.to_owned());
        let upload = async move {
            let local = |source| object_store::Error::Generic { store: "scratch", source };
            let mut file = File::open(&from).map_err(|error| local(error.into()))?;
            let mut upload =
                WriteMultipart::new_with_chunk_size(store.put_multipart(&at).await?, PART);
            loop {
                let mut part = Vec::with_capacity(PART);
                let read = (&mut file).take(PART as u64).read_to_end(&mut part);
                if read.map_err(|error| local(error.into()))? == 0 {
                    return upload.finish().await.map(|_| ());
                }
                upload.wait_for_capacity(PARTS_AT_ONCE).await?;
                upload.put(part.into());
            }
        };
        self.runtime.wait(upload).map_err(self.busy("upload", path))?;
        delete(scratch)
    }

    fn delete(&self, path: &str) -> Result<()> {
        let (store, at) = (self.store.clone(), self.path(path));
        let deleted = self.runtime.wait(async move { store.delete(&at).await });
        self.found(path, deleted).map(|_| ())
    }

    fn open(&self, path: &str) -> Result<Option<Ranged>> {
        let (store, at) = (self.store.clone(), self.path(path));
        let head = self.runtime.wait(async move { store.head(&at).await });
        let Some(head) = self.found(path, head)? else { return Ok(None) };
        let (store, runtime) = (self.store.clone(), self.runtime.clone());
        let source = Source::Remote { store, path: head.location, runtime };
        Ok(Some(Ranged { source, length: head.size }))
    }

    fn open_whole(&self, path: &str) -> Result<Option<File>> {
        let Some(ranged) = self.open(path)? else { return Ok(None) };
        let scratch = self.scratch()?;
        let options = &mut File::options();
        let options = options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(&scratch).at("create", &scratch)?;
        // An open file stays readable without a name, and needs no removal after a crash.
        delete(&scratch)?;
        let mut at = 0;
        while at < ranged.length {
            let length = (ranged.length - at).min(PART as u64) as usize;
            let bytes = ranged.get_bytes(at, length).map_err(|error| {
                StoreError::Busy(format!("cannot read {}: {error}", self.name(path)))
            })?;
            file.write_all(&bytes).at("write", &scratch)?;
            at += length as u64;
        }
        Ok(Some(file))
    }

    fn clear_scratch(&self) -> Result<()> {
        // The folder may be shared with other processes; temporary files are the system's to clear.
        Ok(())
    }

    fn store(&self) -> (Arc<dyn ObjectStore>, StorePath) {
        (self.store.clone(), self.prefix.clone())
    }

    fn name(&self, path: &str) -> String {
        format!("{}:{}", self.store, self.path(path))
    }
}

/// An object of which parts are read.
#[derive(Clone)]
pub(crate) struct Ranged {
    source: Source,
    length: u64,
}

#[derive(Clone)]
enum Source {
    Local(Arc<File>),
    Remote { store: Arc<dyn ObjectStore>, path: StorePath, runtime: Arc<Runtime> },
}

impl Ranged {
    pub(crate) fn of_file(file: File) -> std::io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { source: Source::Local(Arc::new(file)), length })
    }
}

impl Length for Ranged {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Ranged {
    type T = BufReader<ReadFrom>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::with_capacity(READ_AHEAD, ReadFrom { object: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.length);
        let Some(end) = end else {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are not there")));
        };
        match &self.source {
            Source::Local(file) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, start)?;
                Ok(bytes.into())
            }
            Source::Remote { store, path, runtime } => {
                let (store, path) = (store.clone(), path.clone());
                runtime
                    .wait(async move { store.get_range(&path, start..end).await })
                    .map_err(|error| ParquetError::External(Box::new(error)))
            }
        }
    }
}

/// Reads an object from a place on.
pub(crate) struct ReadFrom {
    object: Ranged,
    at: u64,
}

impl Read for ReadFrom {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let left = self.object.length.saturating_sub(self.at);
        let length = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        let read = match &self.object.source {
            Source::Local(file) => file.read_at(&mut out[..length], self.at)?,
            Source::Remote { .. } => {
                let bytes = self.object.get_bytes(self.at, length);
                out[..length].copy_from_slice(&bytes.map_err(std::io::Error::other)?);
                length
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}
