//! The changes of a collection, one JSON document a line.

use reqwest::Response;
use serde_json::Value;

/// A watch that goes on until the API server ends it, which it does after minutes.
#[derive(Debug)]
pub struct Watch {
    answer: Response,
    read: Vec<u8>,
}

impl Watch {
    pub(super) fn new(answer: Response) -> Self {
        Self {
            answer,
            read: Vec::new(),
        }
    }

    /// The next change, `{"type": …, "object": …}`; `None` at the end, for whatever reason. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            let more = self.answer.chunk().await.ok()??;
            if self.read.len() + more.len() > LONGEST {
                return None;
            }
            self.read.extend_from_slice(&more);
        }
    }
}

/// More than the API server takes for one object.
const LONGEST: usize = 8 * 1024 * 1024;
