// One document that tabs edit together: each is a client of the node, with a storage of its own browser.

import {
  Automerge, IndexedDBStorageAdapter, Repo, WebSocketClientAdapter, initializeWasm, isValidAutomergeUrl,
} from "./automerge-repo.js"

const RETRY_MS = 1000

const element = id => document.getElementById(id)
const [online, text, count, state] = ["online", "text", "count", "state"].map(element)

await initializeWasm(fetch(new URL("automerge.wasm", import.meta.url)))

const socket = new URL("/v1/_sync", location.href)
socket.protocol = socket.protocol.replace("http", "ws")
const network = new WebSocketClientAdapter(socket.href, RETRY_MS)
const repo = new Repo({ network: [network], storage: new IndexedDBStorageAdapter("tombolo-example") })
const links = repo.networkSubsystem

/** The storage of the node, once it has said who it is. */
let node
/** Whether the node is there, which it may not be without our doing. */
let connected = false
let handle
/** The text in the box: as the document has it, and the heads at which it has. */
let shown = { text: "", heads: [] }
links.on("peer", ({ peerMetadata }) => { node = peerMetadata.storageId; connected = true; tell() })
links.on("peer-disconnected", () => { connected = false; tell() })

handle = await open()

/** The document that the address names; without one, a new document. */
async function open() {
  const named = address()
  if (named === "") {
    const made = repo.create({ text: "", count: new Automerge.Counter(0) })
    history.replaceState(null, "", `#${made.url}`)
    return made
  }
  if (!isValidAutomergeUrl(named)) return give("what stands behind # names no document")
  for (;;) {
    try { return await repo.find(named) } catch { state.textContent = "the document is not here yet" }
    await new Promise(resolve => setTimeout(resolve, RETRY_MS))
  }
}

/** What stands behind `#`, without the heads that may follow. */
function address() {
  try { return decodeURIComponent(location.hash.slice(1)).split("#")[0] } catch { return "?" }
}

/** Says why there is nothing to edit, and leaves it at that. */
function give(why) {
  state.textContent = why
  return new Promise(() => {})
}

/** Says how far this tab is. */
function tell() {
  if (!handle) return
  const heads = JSON.stringify(handle.heads())
  const saved = node && JSON.stringify(handle.getSyncInfo(node)?.lastHeads) === heads
  const offline = online.checked ? "the node is not there" : "offline"
  state.textContent = (connected ? "" : `${offline}; `) + (saved ? "the node has all of it" : "the node has not all of it")
}

/** Whether a document is one that this page can show: others write what they like. */
function fits({ text, count }) {
  const isText = text === undefined || typeof text === "string" || text instanceof Automerge.ImmutableString
  return isText && (count === undefined || typeof count === "number" || count instanceof Automerge.Counter)
}

/** The text of a document: what REST wrote as a value is one, too. */
function plain(doc) {
  return String(doc.text ?? "")
}

/** A text as the box has it, with one kind of line end. */
function boxed(text) {
  return text.replace(/\r\n?/g, "\n")
}

/** Shows the document, the caret where it was among the letters beside it. */
function show(patches = []) {
  const doc = handle.doc()
  if (!fits(doc)) return
  count.value = Number(doc.count ?? 0)
  const now = plain(doc), before = shown.text
  shown = { text: now, heads: handle.heads() }
  if (text.value === boxed(now)) return
  let { selectionStart: start, selectionEnd: end } = text
  for (const { action, path: [key, place], value = "", length = 1 } of patches) {
    if (key !== "text" || typeof place !== "number") continue
    const at = boxed(before.slice(0, place)).length
    const move = caret => {
      if (action === "splice") return at < caret ? caret + boxed(value).length : caret
      if (action === "del") return at < caret ? Math.max(at, caret - length) : caret
      return caret
    }
    start = move(start)
    end = move(end)
  }
  text.value = boxed(now)
  text.setSelectionRange(start, end)
}

/** Writes what was done to the text in the box, which may be behind the document. */
function write() {
  const { text: before, heads } = shown
  const [from, to, letters] = difference(before, text.value)
  if (from === to && letters === "") return
  const edit = doc => {
    if (typeof doc.text === "string") Automerge.splice(doc, ["text"], from, to - from, letters)
    else doc.text = text.value
  }
  if (JSON.stringify(heads) === JSON.stringify(handle.heads())) handle.change(edit)
  else handle.changeAt(heads, edit)
}

/** What of a text was replaced, from where to where, and by what. No letter is cut in two. */
function difference(before, after) {
  const old = boxed(before)
  const least = Math.min(old.length, after.length)
  const isCut = (text, at) => /^[\udc00-\udfff]/.test(text.slice(at, at + 1))
  let start = 0, end = 0
  while (start < least && old[start] === after[start]) start++
  if (isCut(old, start) || isCut(after, start)) start--
  while (end < least - start && old.at(-1 - end) === after.at(-1 - end)) end++
  if (isCut(old, old.length - end) || isCut(after, after.length - end)) end--
  // Two letters that end a line stand as one in the box.
  const place = index => {
    let at = 0
    for (let n = 0; n < index; n++) at += before.startsWith("\r\n", at) ? 2 : 1
    return at
  }
  return [place(start), place(old.length - end), after.slice(start, after.length - end)]
}

function add(by) {
  handle.change(doc => {
    if (doc.count instanceof Automerge.Counter) doc.count.increment(by)
    else doc.count = new Automerge.Counter((doc.count ?? 0) + by)
  })
}

if (!fits(handle.doc())) await give("this page cannot show what that document holds")

// What is composed is not ours to change before it is done.
let composing = false
/** What came meanwhile. */
let missed = []
text.addEventListener("compositionstart", () => { composing = true })
text.addEventListener("compositionend", () => {
  const theirs = missed.splice(0)
  write()
  composing = false
  missed = []
  show(theirs)
})
text.addEventListener("input", () => { if (!composing) write() })
element("less").addEventListener("click", () => add(-1))
element("more").addEventListener("click", () => add(1))
online.addEventListener("change", () => {
  if (online.checked) links.reconnect()
  else links.disconnect()
  tell()
})
addEventListener("hashchange", () => location.reload())

handle.on("change", ({ patches }) => {
  if (composing) missed.push(...patches)
  else show(patches)
})
handle.on("heads-changed", () => {
  // What changes nothing to see, such as a deletion, comes without a change.
  if (!composing && plain(handle.doc()) === shown.text) shown.heads = handle.heads()
  tell()
})
handle.on("remote-heads", tell)

element("second").href = location.href
element("curl").textContent = `curl ${new URL(`/v1/automerge/${handle.documentId}`, location.href)}`
for (const control of document.querySelectorAll("[disabled]")) control.disabled = false
show()
tell()
