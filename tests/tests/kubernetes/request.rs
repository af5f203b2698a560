//! A request over HTTP/1.1, as a fake of a platform's server reads it from a client that it knows.

use anyhow::{Context, Result};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// One request, whole.
pub(crate) struct Request {
    /// Method and path.
    pub(crate) what: String,
    fields: Vec<(String, String)>,
    /// Empty if there is none.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Reads it up to the end of its body, whose length it has to say.
    pub(crate) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let what = lines.first().context("no request")?;
        let what = what.strip_suffix(" HTTP/1.1").context("no version")?.to_owned();
        let fields = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let mut request = Self {
            what,
            fields: fields.collect(),
            body: Vec::new(),
        };
        let length = request.field("content-length").map_or(Ok(0), str::parse)?;
        request.body = vec![0; length];
        stream.read_exact(&mut request.body).await?;
        Ok(request)
    }

    /// A field's value.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}
