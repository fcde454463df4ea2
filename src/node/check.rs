//! Checking a closed store: every row, and every document against what is said of it.

use super::{Error, threads::STACK_BYTES};
use crate::{
    doc::{Actor, Document, Form},
    ident::Name,
    store::{Checked, Engine, Finding, Head, Listener, OpenError, Store, Stored},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

/// Documents that wait for a thread to check them.
const WAITING_MAX: usize = 256;

/// What a check tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something is not as it should be.
    Found(Finding),
    /// So far it has come.
    Progress(Checked),
}

/// Reads every row of a closed store, and loads every document on all cores: each has to load to the
/// version of its head, and its view has to be what it makes, byte for byte.
///
/// # Errors
/// The store cannot be opened, or no thread be started.
pub fn check(
    engine: Arc<dyn Engine>,
    told: &mut (dyn FnMut(Told) + Send),
) -> Result<Checked, OpenError> {
    let store = Store::inspect(engine)?;
    let told = Mutex::new(told);
    let tell = |what: Told| told.lock().unwrap_or_else(PoisonError::into_inner)(what);
    let (sender, documents) = sync_channel::<(Name, Head)>(WAITING_MAX);
    let documents = Mutex::new(documents);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for index in 0..threads {
            let work = || {
                while let Some((name, head)) = next(&documents) {
                    for what in faults(&store, &name, &head) {
                        let place = format!("{}/{}", name.collection(), name.key());
                        tell(Told::Found(Finding { place, what }));
                    }
                }
            };
            let builder = thread::Builder::new().name(format!("check-{index}"));
            let started = builder.stack_size(STACK_BYTES).spawn_scoped(scope, work);
            // The threads that run end with the sender.
            started.map_err(|cause| OpenError::Directory { path: "thread".into(), cause })?;
        }
        let checked = store.check(Listener {
            found: &mut |finding| tell(Told::Found(finding)),
            // The threads outlive the check.
            document: &mut |name, head| drop(sender.send((name, head))),
            progress: &mut |checked| tell(Told::Progress(checked)),
        });
        drop(sender);
        Ok(checked)
    })
}

fn next(documents: &Mutex<Receiver<(Name, Head)>>) -> Option<(Name, Head)> {
    documents.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// What is wrong with a document whose rows are well.
fn faults(store: &Store, name: &Name, head: &Head) -> Vec<String> {
    let checked = catch_unwind(AssertUnwindSafe(|| compare(store, name, head)));
    checked.unwrap_or_else(|_| Ok(vec!["loading it panics".to_owned()])).unwrap_or_else(|error| {
        vec![match error {
            Error::Damaged(why) | Error::Internal(why) => why,
            other => other.to_string(),
        }]
    })
}

fn compare(store: &Store, name: &Name, head: &Head) -> Result<Vec<String>, Error> {
    let Some(Stored { head: there, chunks, .. }) = store.document(name)? else {
        return Ok(vec!["it has no head any more".to_owned()]);
    };
    if there != *head {
        return Ok(vec!["its head changed while it was checked".to_owned()]);
    }
    let chunks = chunks.iter().map(|chunk| &chunk[..]);
    let loaded = Document::load(chunks, &head.standing, &head.version, Actor([0; 16]));
    let document = loaded.map_err(|damaged| Error::Damaged(damaged.to_string()))?;
    let rendering = document.render(Form::Plain, None)?;
    let mut faults = Vec::new();
    if document.is_deleted() != head.deleted {
        faults.push("its head and its changes tell apart whether it is deleted".to_owned());
    }
    if document.standing() != head.standing {
        faults.push("what stands in it is not what its head says".to_owned());
    }
    // A view that cannot be read was told of with the rows.
    if let Ok(Some(view)) = store.view(name)
        && let Some(json) = view.json
    {
        if rendering.json.as_deref() != Some(&json[..]) {
            faults.push("its view is not what its changes make".to_owned());
        }
        if rendering.conflicts != view.conflicts {
            let (counted, said) = (rendering.conflicts, view.conflicts);
            faults.push(format!("it has {counted} conflicts, and its view says {said}"));
        }
    }
    Ok(faults)
}
