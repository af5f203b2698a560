//! A closed recording read from the store, event by event.

use std::collections::VecDeque;
use std::io;

use doorward_audit::export::About;
use doorward_audit::{Event, Tail, segment_name};
use tokio::io::AsyncReadExt as _;

use super::Item;
use crate::record::{Content, Store};

/// A reader in the middle of a recording.
pub(super) struct RecordingReader {
    pub(super) about: About,
    /// Events that were handed out, those of an earlier life of the gateway included.
    handed: u64,
    read: u64,
    started: u64,
    segment: u32,
    content: Option<Content>,
    tail: Tail,
    ready: VecDeque<Item>,
    over: bool,
}

impl RecordingReader {
    /// A reader that goes on behind this many events.
    pub(super) fn new(about: About, events: u64) -> Self {
        Self {
            about,
            handed: events,
            read: 0,
            started: 0,
            segment: 0,
            content: None,
            tail: Tail::default(),
            ready: VecDeque::new(),
            over: false,
        }
    }

    /// How many events were handed out.
    pub(super) fn position(&self) -> u64 {
        self.handed
    }

    /// Whether everything was handed out.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.ready.is_empty()
    }

    /// The next events, not more than `most`; none but at the end.
    ///
    /// # Errors
    /// Those of the store; then the reader is not to be used again.
    pub(super) async fn next(&mut self, store: &Store, most: usize) -> io::Result<Vec<Item>> {
        let mut out = Vec::new();
        loop {
            while let Some(item) = self.ready.pop_front() {
                if let Item::Event { index, .. } = &item {
                    self.handed = index + 1;
                }
                out.push(item);
                if out.len() >= most {
                    return Ok(out);
                }
            }
            if self.over {
                return Ok(out);
            }
            self.read_on(store).await?;
        }
    }

    async fn read_on(&mut self, store: &Store) -> io::Result<()> {
        match self.tail.next_block() {
            Ok(Some(block)) => return self.take(&block),
            Ok(None) => {}
            Err(fault) => {
                self.end(Some(format!("the recording is damaged: {fault}")));
                return Ok(());
            }
        }
        if self.content.is_none() {
            let name = segment_name(self.segment);
            self.content = store.file(self.about.session, &name).await?;
        }
        let Some(content) = &mut self.content else {
            let none = (self.segment == 0).then(|| "the store has no recording of the session".to_owned());
            self.end(none);
            return Ok(());
        };
        let mut buffer = vec![0; 64 * 1024];
        match content.bytes.read(&mut buffer).await? {
            0 => {
                self.content = None;
                self.segment += 1;
            }
            len => self.tail.push(buffer.get(..len).unwrap_or_default()),
        }
        Ok(())
    }

    fn take(&mut self, block: &doorward_audit::Block) -> io::Result<()> {
        let events = match block.events() {
            Ok(events) => events,
            Err(fault) => {
                self.end(Some(format!("the recording is damaged: {fault}")));
                return Ok(());
            }
        };
        for stamped in events {
            if let Event::Opened(opened) = &stamped.event {
                self.started = opened.started_unix_ms;
            }
            let index = self.read;
            self.read += 1;
            // The bytes of the terminal are not for collectors: they are not kept until they are asked for.
            let bulk = matches!(stamped.event, Event::Output(_) | Event::Input(_));
            if index >= self.handed && !bulk {
                self.ready.push_back(Item::Event {
                    index,
                    unix_ms: self.started.saturating_add(stamped.at / 1_000_000),
                    event: Box::new(stamped.event),
                });
            }
        }
        Ok(())
    }

    fn end(&mut self, missing: Option<String>) {
        self.over = true;
        if let Some(why) = missing {
            self.ready.push_back(Item::Missing { from: self.read, why });
        }
    }
}
