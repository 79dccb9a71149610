//! The two ways in which a life ends.

use std::collections::BTreeSet;

use super::cut::Fates;
use super::names::Inode;
use super::op::{HandleId, OpId, Target, Work};
use super::state::State;
use crate::sim::rng::Rng;

impl State {
    /// The power goes. What was durable stays; of everything else any part may.
    pub(in crate::sim) fn power_cut(&mut self, rng: &mut Rng) {
        let mut fates = Fates::new(rng.fork(), self.model.shred);
        self.scatter_in_flight(&mut fates);
        let surviving = fates.prefix(self.names.pending_count());
        self.names.power_cut(surviving);
        self.handles.clear();
        self.unsettled.clear();
        self.forget_unnamed();
        for file in self.inodes.values_mut() {
            let surviving = fates.prefix(file.shapes.pending_count());
            let shape_seq = file.shapes.power_cut(surviving);
            let size = file.shapes.current().size;
            file.content.power_cut(size, shape_seq, &mut fates);
        }
    }

    /// What was in flight becomes one more change that may or may not have reached the medium.
    fn scatter_in_flight(&mut self, fates: &mut Fates) {
        for id in self.in_flight_ids() {
            if self.is_write(id) {
                self.scatter_write(id, fates);
            } else if self.changes_names_or_shape(id) && fates.rng().coin() {
                self.complete(id, fates.rng());
            } else {
                self.in_flight.remove(&id);
            }
        }
    }

    fn scatter_write(&mut self, id: OpId, fates: &mut Fates) {
        let Some((inode, offset, bytes)) = self.take_write(id) else {
            return;
        };
        let seq = self.next_seq();
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.content.write_in_flight(offset, &bytes, seq, fates);
        }
    }

    /// The process is killed. The kernel lives on: what has completed stays visible, and of what
    /// was in flight some is done, some is not, some writes are done in part, and some are still
    /// in flight and hold their file's lock.
    pub(in crate::sim) fn process_kill(&mut self, rng: &mut Rng) {
        for id in self.in_flight_ids() {
            match rng.below(4) {
                _ if self.stall_of(id).is_some() => {}
                0 | 1 if self.is_write(id) => {}
                2 if self.is_write(id) => self.stop_write(id, rng),
                0 | 2 if self.changes_names_or_shape(id) => {
                    self.complete(id, rng);
                }
                _ => self.cancel(id),
            }
        }
        let handles: Vec<HandleId> = self.handles.keys().copied().collect();
        for handle in handles {
            self.close(handle);
        }
    }

    /// Only a first part of a write is done.
    fn stop_write(&mut self, id: OpId, rng: &mut Rng) {
        let handle = self.handle_of(id);
        if let Some((inode, offset, bytes)) = self.take_write(id) {
            let block = crate::rt::BLOCK_BYTES;
            let done = (rng.index(bytes.len() / block + 1) * block).min(bytes.len());
            self.write_blocks(inode, offset, &bytes[..done]);
        }
        if let Some(handle) = handle {
            self.end_operation(handle);
        }
    }

    fn cancel(&mut self, id: OpId) {
        let handle = self.handle_of(id);
        self.in_flight.remove(&id);
        if let Some(handle) = handle {
            self.end_operation(handle);
        }
    }

    fn take_write(&mut self, id: OpId) -> Option<(Inode, u64, Vec<u8>)> {
        let inode = self.handles.get(&self.handle_of(id)?)?.inode;
        match self.in_flight.remove(&id)?.work {
            Work::Write { bufs, offset, .. } => {
                let bytes = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
                Some((inode, offset, bytes))
            }
            _ => None,
        }
    }

    /// Operations in flight, in the order of their submission.
    pub(in crate::sim) fn in_flight_ids(&self) -> Vec<OpId> {
        self.in_flight.keys().copied().collect()
    }

    fn handle_of(&self, id: OpId) -> Option<HandleId> {
        match self.in_flight.get(&id)?.target {
            Target::Handle(handle) => Some(handle),
            Target::Path(_) => None,
        }
    }

    fn is_write(&self, id: OpId) -> bool {
        let op = self.in_flight.get(&id);
        op.is_some_and(|op| matches!(op.work, Work::Write { .. }))
    }

    fn changes_names_or_shape(&self, id: OpId) -> bool {
        let op = self.in_flight.get(&id);
        op.is_some_and(|op| {
            let only_looks = matches!(
                op.work,
                Work::Read { .. }
                    | Work::ReadDir
                    | Work::Sync
                    | Work::SyncDir
                    | Work::SyncFileSystem
                    | Work::Write { .. }
            );
            !only_looks
        })
    }

    /// After a crash: files without a name are gone, and nothing is open.
    fn forget_unnamed(&mut self) {
        let named: BTreeSet<Inode> = self
            .names
            .files()
            .into_iter()
            .map(|(_, inode)| inode)
            .collect();
        self.inodes.retain(|inode, _| named.contains(inode));
        for file in self.inodes.values_mut() {
            (file.links, file.opens, file.lock) = (1, 0, None);
        }
    }
}
