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
links.on("peer", ({ peerMetadata }) => { node = peerMetadata.storageId; connected = true; tell() })
links.on("peer-disconnected", () => { connected = false; tell() })

handle = await open()

/** The document that the address names; without one, a new document. */
async function open() {
  const named = location.hash.slice(1)
  if (!isValidAutomergeUrl(named)) {
    const made = repo.create({ text: "", count: new Automerge.Counter(0) })
    history.replaceState(null, "", `#${made.url}`)
    return made
  }
  for (;;) {
    try { return await repo.find(named) } catch { state.textContent = "the document is not here yet" }
    await new Promise(resolve => setTimeout(resolve, RETRY_MS))
  }
}

/** Says how far this tab is. */
function tell() {
  if (!handle) return
  const heads = JSON.stringify(handle.heads())
  const saved = node && JSON.stringify(handle.getSyncInfo(node)?.lastHeads) === heads
  const offline = online.checked ? "the node is not there" : "offline"
  state.textContent = (connected ? "" : `${offline}; `) + (saved ? "the node has all of it" : "the node has not all of it")
}

/** Shows the document, the caret where it was among the letters beside it. */
function show(patches = []) {
  const doc = handle.doc()
  count.value = Number(doc.count ?? 0)
  if (text.value === plain(doc)) return
  let { selectionStart: start, selectionEnd: end } = text
  for (const { action, path: [key, at], value = "", length = 1 } of patches) {
    if (key !== "text" || at === undefined) continue
    const move = caret => {
      if (action === "splice") return at < caret ? caret + value.length : caret
      if (action === "del") return at < caret ? Math.max(at, caret - length) : caret
      return caret
    }
    start = move(start)
    end = move(end)
  }
  text.value = plain(doc)
  text.setSelectionRange(start, end)
}

/** The text of any document: what REST wrote as a value is one, too. */
function plain(doc) {
  return String(doc.text ?? "")
}

/** Writes what the text has become. */
function write() {
  handle.change(doc => {
    if (typeof doc.text !== "string") doc.text = plain(doc)
    Automerge.updateText(doc, ["text"], text.value)
  })
}

function add(by) {
  handle.change(doc => {
    if (doc.count instanceof Automerge.Counter) doc.count.increment(by)
    else doc.count = new Automerge.Counter(Number(doc.count ?? 0) + by)
  })
}

// What is composed is not ours to change before it is done.
let composing = false
text.addEventListener("compositionstart", () => { composing = true })
text.addEventListener("compositionend", () => { composing = false; write(); show() })
text.addEventListener("input", () => { if (!composing) write() })
element("less").addEventListener("click", () => add(-1))
element("more").addEventListener("click", () => add(1))
online.addEventListener("change", () => {
  if (online.checked) links.reconnect()
  else links.disconnect()
  tell()
})
addEventListener("hashchange", () => location.reload())

handle.on("change", ({ patches }) => { if (!composing) show(patches); tell() })
handle.on("remote-heads", tell)

element("second").href = location.href
element("curl").textContent = `curl ${new URL(`/v1/automerge/${handle.documentId}`, location.href)}`
for (const control of document.querySelectorAll("[disabled]")) control.disabled = false
show()
tell()
