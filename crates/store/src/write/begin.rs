//! Beginning a snapshot: the lease, the name, the parent, and what chunks may be referred to.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use space::PageSize;

use super::put::Writer;
use crate::{
    backend::{Listed, REQUESTS_AT_ONCE, StorageError, folder, path},
    error::{ReadError, WriteError},
    format::{CHUNK_BYTES_MAX, CHUNK_PAGES_MAX, Lease},
    id::{PackId, SnapshotId},
    known::Known,
    lease::Held,
    page_map::PageMap,
    store::{Inner, Store, lock},
};

/// Letters of the longest name.
const NAME_LETTERS_MAX: usize = 128;
/// Bytes of the longest lease that is read.
const LEASE_BYTES_MAX: u64 = 4 << 20;

/// What a snapshot is to be.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Its name, unique among the snapshots that are there.
    pub name: Option<String>,
    /// The snapshot that it is layered on.
    pub parent: Option<SnapshotId>,
    /// The size of its pages, 64 KiB at most.
    pub page_size: PageSize,
    /// Now, nanoseconds since 1970: to judge other writers' leases by.
    pub now_ns: u64,
}

impl Store {
    /// Begins a snapshot. Until the writer's [`commit`](Writer::commit), the store shows nothing
    /// of it.
    ///
    /// # Errors
    ///
    /// Those of a name that can't be given, a parent that is not there, and of access.
    pub fn begin(&self, options: WriteOptions) -> Result<Writer, WriteError> {
        check_options(&options)?;
        let inner = &self.inner;
        let id = SnapshotId::random().map_err(|_| WriteError::Random)?;
        let lease = Lease::new(id, options.name.clone(), options.parent);
        let held = Held::take(Arc::clone(inner), lease)?;
        if let Some(name) = &options.name {
            check_name_is_free(inner, id, name, options.now_ns)?;
        }
        let parent = options
            .parent
            .map(|parent| inner.parent(parent))
            .transpose()?;
        if let Some(parent) = &parent
            && parent.map.page_size != options.page_size
        {
            return Err(WriteError::ParentPageSize(parent.id));
        }
        // In this order, see the module's text: lease, condemned packs, packs.
        let condemned: Vec<PackId> = inner
            .backend
            .list_ids(folder::CONDEMNED)?
            .into_iter()
            .map(|(pack, _)| pack)
            .collect();
        held.ignore(condemned.clone())?;
        let known = inner.refresh_known(&condemned, parent.as_ref().map(|p| &*p.map))?;
        Ok(Writer::new(self.clone(), id, options, parent, held, known))
    }
}

/// Tells whether a snapshot can have a name: it is told so before anything is opened or begun.
///
/// # Errors
///
/// [`WriteError::Name`] if not.
pub fn check_name(name: &str) -> Result<(), WriteError> {
    let fits = (1..=NAME_LETTERS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits {
        Ok(())
    } else {
        Err(WriteError::Name(name.to_owned()))
    }
}

fn check_options(options: &WriteOptions) -> Result<(), WriteError> {
    if let Some(name) = &options.name {
        check_name(name)?;
    }
    let chunk = options.page_size.bytes() * u64::from(CHUNK_PAGES_MAX);
    if chunk > u64::from(CHUNK_BYTES_MAX) {
        return Err(WriteError::PageSize(options.page_size.bytes()));
    }
    Ok(())
}

fn check_name_is_free(
    inner: &Inner,
    id: SnapshotId,
    name: &str,
    now_ns: u64,
) -> Result<(), WriteError> {
    for lease in inner
        .leases()?
        .into_iter()
        .filter_map(|(_, lease)| lease.ok())
    {
        let others = lease.id != id && lease.name.as_deref() == Some(name);
        if others && lease.expires_ns > now_ns {
            return Err(WriteError::NameLeased {
                name: name.to_owned(),
                by: lease.id,
                seconds: Duration::from_nanos(lease.expires_ns - now_ns).as_secs() + 1,
            });
        }
    }
    if let Some(by) = inner.owner_of(name)? {
        let name = name.to_owned();
        return Err(WriteError::NameTaken { name, by });
    }
    Ok(())
}

type ReadLease = (String, Result<Lease, crate::format::FormatError>);

impl Inner {
    /// Reads all leases there are, and what is wrong with those that can't be understood.
    pub(crate) fn leases(&self) -> Result<Vec<ReadLease>, StorageError> {
        let mut leases = Vec::new();
        for listed in self.backend.list(folder::LEASES)? {
            match self
                .backend
                .get(&path(folder::LEASES, &listed.name), LEASE_BYTES_MAX)
            {
                Ok(bytes) => leases.push((listed.name, Lease::decode(&bytes))),
                // It was released since.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(leases)
    }

    /// Brings the index of known chunks up to date: packs that are gone or condemned leave it,
    /// others come in as far as there is room: those of the parent first, then the newest.
    fn refresh_known(
        &self,
        condemned: &[PackId],
        parent: Option<&PageMap>,
    ) -> Result<Arc<Known>, StorageError> {
        let condemned: HashSet<PackId> = condemned.iter().copied().collect();
        let mut listed: Vec<(PackId, Listed)> = self.backend.list_ids(folder::PACKS)?;
        listed.retain(|(pack, _)| !condemned.contains(pack));
        let kept: HashSet<PackId> = listed.iter().map(|(pack, _)| *pack).collect();
        let near: HashSet<PackId> = parent
            .map(|map| map.packs.iter().copied().collect())
            .unwrap_or_default();
        listed.sort_by_key(|(pack, listed)| (near.contains(pack), listed.modified_ns, *pack));

        let mut shared = lock(&self.known);
        let known = Arc::make_mut(&mut shared);
        known.retain(&kept);
        let loaded: HashSet<PackId> = known.packs().iter().copied().collect();
        let missing = listed.into_iter().rev().map(|(pack, _)| pack);
        let missing: Vec<_> = missing.filter(|pack| !loaded.contains(pack)).collect();
        let load = async {
            let indexes = futures_util::stream::iter(missing)
                .map(async |pack| (pack, self.pack_index_async(pack).await))
                .buffered(REQUESTS_AT_ONCE);
            let mut indexes = std::pin::pin!(indexes);
            while !known.is_full()
                && let Some((pack, content)) = indexes.next().await
            {
                match content {
                    Ok(content) => known.add(pack, &content),
                    Err(ReadError::Storage(error)) if !error.is_not_found() => return Err(error),
                    // Damaged packs are found by `verify`; here they are merely of no use.
                    Err(_) => {}
                }
            }
            Ok(())
        };
        self.backend.wait(load)?;
        Ok(Arc::clone(&shared))
    }

    /// Takes up the packs of a snapshot that was just written.
    pub(crate) fn learn(&self, packs: HashMap<PackId, crate::format::PackIndex>) {
        let mut shared = lock(&self.known);
        let known = Arc::make_mut(&mut shared);
        for (pack, content) in packs {
            known.add(pack, &content);
        }
    }
}
