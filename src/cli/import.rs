//! `tombolo import`: many documents, out of files.

use super::{
    args::{Field, Format, Import, Source, Voice},
    client::Client,
    failure::Failure,
    input, output,
    progress::Progress,
    row::Lines,
    rows::{Found, Rows},
    saved,
    upload::{Batch, Tally, Upload},
};
use crate::ident::Collection;
use anyhow::Context;
use serde_json::json;
use std::{
    mem,
    sync::{Arc, atomic::AtomicU64},
    thread,
};
use tokio::sync::mpsc;

/// Bytes of one batch; the last row may stand over it.
const BATCH_BYTES: usize = 64 << 10;
/// Most rows of one batch, and faults.
const BATCH_ROWS_MAX: usize = 1024;
/// Batches that are read and not taken.
const BATCHES_MAX: usize = 4;

/// Runs the command.
pub(crate) async fn run(client: &Client, line: &Import, voice: Voice) -> anyhow::Result<()> {
    // What is not there is said before anything is written.
    let sizes = line.files.iter().map(input::measure).collect::<anyhow::Result<Vec<_>>>()?;
    let (saved, files): (Vec<_>, Vec<_>) = line.files.iter().cloned().partition(saved::is_saved);
    if line.key.is_some() && !saved.is_empty() {
        let why = "--key names a member of rows; a saved document has its key from its file's name";
        return Err(Failure::Usage(why.into()).into());
    }
    let all = sizes.into_iter().sum::<Option<u64>>();
    let read = Arc::new(AtomicU64::new(0));
    let (sender, batches) = mpsc::channel(BATCHES_MAX);
    let reader = Reader {
        collection: line.collection.clone(),
        field: line.key.clone(),
        read: Arc::clone(&read),
        sender,
        batch: Batch::default(),
        text: Vec::new(),
    };
    let reading = thread::Builder::new().name("reader".to_owned());
    reading.spawn(move || reader.run(&files)).context("no thread could be started")?;

    let mut upload = Upload::new(client, batches, Progress::new(voice), read, all);
    let mut ended = upload.run().await;
    for file in &saved {
        if ended.is_err() {
            break;
        }
        match saved::import(client, &line.collection, file).await {
            Ok(new) => {
                upload.tally.documents += 1;
                upload.tally.unchanged += u64::from(new == 0);
                upload.progress.tell(upload.tally.documents, None);
            }
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Unreachable(_))) => {
                ended = Err(error);
            }
            Err(error) => {
                upload.tally.failed += 1;
                upload.progress.talk(&format!("{error:#}"));
            }
        }
    }
    upload.progress.clear();
    let tally = upload.tally;
    summary(tally, &upload.progress, voice.format())?;
    ended.context("not everything was imported; run it again to go on")?;
    if 0 < tally.failed {
        let all = tally.failed;
        return Err(Failure::Refused(format!("{all} of what was to be imported was not")).into());
    }
    Ok(())
}

fn summary(tally: Tally, progress: &Progress, format: Format) -> anyhow::Result<()> {
    let Tally { documents, unchanged, failed } = tally;
    let text = match format {
        Format::Json | Format::Ndjson => {
            json!({"documents": documents, "unchanged": unchanged, "failed": failed}).to_string()
        }
        Format::Table => {
            let seconds = progress.elapsed().as_secs_f64();
            format!(
                "{documents} documents ({unchanged} unchanged), {failed} failed, {seconds:.1} s"
            )
        }
    };
    Ok(output::data(text.as_bytes())?)
}

/// Reads files, on a thread of its own: files wait for disks, and compression for nobody.
struct Reader {
    collection: Collection,
    field: Option<Field>,
    read: Arc<AtomicU64>,
    sender: mpsc::Sender<Batch>,
    batch: Batch,
    text: Vec<u8>,
}

/// Nobody takes batches any more.
struct Gone;

impl Reader {
    /// Reads all files. What is wrong with one is no reason to leave the others.
    fn run(mut self, files: &[Source]) {
        for file in files {
            self.batch.file = file.to_string().into();
            match self.file(file) {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) => return,
                Err(error) => self.batch.faults.push(format!("{file}: {error:#}")),
            }
            if self.send().is_err() {
                return;
            }
        }
    }

    fn file(&mut self, file: &Source) -> anyhow::Result<Result<(), Gone>> {
        let mut rows = Rows::new(input::open(file, Arc::clone(&self.read))?);
        let mut row = Vec::new();
        while let Some(Found { line, fault }) = rows.next(&mut row)? {
            self.row(line, fault, &row);
            let count = self.batch.rows.len() + self.batch.faults.len();
            let full = BATCH_BYTES <= self.text.len() || BATCH_ROWS_MAX <= count;
            if full && self.send().is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(()))
    }

    fn row(&mut self, line: u64, fault: Option<&str>, row: &[u8]) {
        let (collection, field) = (&self.collection, self.field.as_ref());
        let lines = Lines { collection, field, file: &self.batch.file };
        let done = match fault {
            None => lines.append(line, row, &mut self.text),
            Some(fault) => Err(fault.to_owned()),
        };
        match done {
            Ok(()) => self.batch.rows.push((line, self.text.len())),
            Err(why) => self.batch.faults.push(format!("{}:{line}: {why}", self.batch.file)),
        }
    }

    fn send(&mut self) -> Result<(), Gone> {
        let fresh = Batch { file: Arc::clone(&self.batch.file), ..Batch::default() };
        let mut batch = mem::replace(&mut self.batch, fresh);
        batch.text = mem::take(&mut self.text).into();
        if batch.rows.is_empty() && batch.faults.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(batch).map_err(|_| Gone)
    }
}
