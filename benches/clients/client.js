// The client that all servers are measured with. Commands come as lines of JSON, one after the other, and
// each is answered by one line. The argument is the URL of the server's WebSocket.
//
// "Raw" is the protocol without a Repo: frames, Automerge's sync messages, and as little of anything else as
// there can be, so that the client is not what is measured.

import * as Automerge from "@automerge/automerge"
import { Repo, generateAutomergeUrl, parseAutomergeUrl, cbor } from "@automerge/automerge-repo"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"
import { randomUUID } from "node:crypto"
import { readFile, writeFile } from "node:fs/promises"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import WebSocket from "ws"

const URL = process.argv[2]
/** Documents that are under way at once. */
const WINDOW = 200
/** What is typed, over and over. */
/** One in so many characters stands elsewhere than behind the last. */
const JUMP = 50
const LETTERS = "the quick brown fox jumps over a lazy dog "

/** One connection without a Repo. */
class Raw {
  static async open() {
    const raw = new Raw()
    const joined = new Promise(resolve => { raw.joined = resolve })
    await new Promise((resolve, reject) => raw.socket.once("open", resolve).once("error", reject))
    raw.send({ type: "join", senderId: raw.peer, peerMetadata: { isEphemeral: true }, supportedProtocolVersions: ["1"] })
    raw.server = (await joined).senderId
    return raw
  }

  constructor() {
    this.peer = `raw-${randomUUID()}`
    this.talks = new Map()
    this.socket = new WebSocket(URL, { maxPayload: 64 << 20 })
    this.socket.on("message", bytes => this.hear(cbor.decode(bytes)))
    this.socket.on("close", () => this.fail?.(new Error("the server hung up")))
  }

  say(message) {
    this.send({ senderId: this.peer, targetId: this.server, ...message })
  }

  send(message) {
    this.socket.send(cbor.encode(message))
  }

  hear(message) {
    if (message.type === "peer") this.joined(message)
    this.talks.get(message.documentId)?.hear(message)
  }

  /** Talks about many documents, so many at once, until each has what it is there for. */
  async all(talks) {
    const waiting = talks.values()
    await new Promise((resolve, reject) => {
      this.fail = reject
      let open = 0
      const next = () => {
        const { value: talk, done } = waiting.next()
        if (!done) {
          open += 1
          this.talks.set(talk.id, talk)
          talk.begin(this, () => {
            // What is not needed any more is not the collector's to find.
            this.talks.delete(talk.id)
            Automerge.free(talk.document)
            open -= 1
            next()
          }, reject)
        } else if (open === 0) {
          resolve()
        }
      }
      for (let n = 0; n < WINDOW; n++) next()
    })
    this.fail = undefined
  }

  close() {
    this.socket.close()
  }
}

/** What is said of one document. */
class Talk {
  /** `document`: what is pushed until the server has it; without, it is fetched until it is here. */
  constructor(id, document) {
    this.id = id
    this.document = document ?? Automerge.init()
    this.type = document ? "sync" : "request"
    this.state = Automerge.initSyncState()
  }

  begin(raw, done, fail) {
    Object.assign(this, { raw, done, fail })
    this.say()
  }

  say() {
    const [state, data] = Automerge.generateSyncMessage(this.document, this.state)
    this.state = state
    if (data) this.raw.say({ type: this.type, documentId: this.id, data })
    this.type = "sync"
  }

  hear({ type, data }) {
    if (type === "doc-unavailable") return this.fail(new Error(`${this.id} is unavailable`))
    if (type !== "sync") return
    const theirs = Automerge.decodeSyncMessage(data).heads
    const [document, state] = Automerge.receiveSyncMessage(this.document, this.state, data)
    Object.assign(this, { document, state })
    const ours = Automerge.getHeads(document)
    this.say()
    if (this.done && ours.length !== 0 && JSON.stringify(ours) === JSON.stringify(theirs)) {
      const done = this.done
      this.done = undefined
      done()
    }
  }
}

/** A small document: some 165 bytes of JSON. */
const small = n => ({
  title: `note number ${n}`,
  body: "some words that a person might have written down in a hurry, and more",
  done: n % 2 === 0,
  created: 1_700_000_000_000 + n,
  tags: ["one", `tag-${n % 17}`],
})

const newId = () => parseAutomergeUrl(generateAutomergeUrl()).documentId

/** A stock client. */
const stock = () => {
  const socket = new WebSocketClientAdapter(URL)
  return { socket, repo: new Repo({ network: [socket] }) }
}

/** Waits until something holds. */
const until = async holds => {
  for (let n = 0; !holds(); n++) {
    if (n === 30_000) throw new Error("it never came")
    await sleep(2)
  }
}

/** Finds a document that may be on its way. */
const find = async (repo, url) => {
  for (let n = 0; ; n++) {
    try { return await repo.find(url) } catch (error) { if (n === 100) throw error }
    await sleep(50)
  }
}

const percentile = (times, percent) => times.sort((a, b) => a - b)[Math.floor((times.length - 1) * percent / 100)]

/** Ids of the documents pushed, that of the text, connections and clients that are open, and their handles. */
const state = { ids: [], text: undefined, raw: {}, stock: [], handles: [] }

/** The raw connection of this name, made when it is first asked for. */
const raw = async name => state.raw[name] ??= await Raw.open()

/** What is timed: the milliseconds are those until the last is done. */
const timed = async run => {
  const begin = performance.now()
  await run()
  return performance.now() - begin
}

const commands = {
  /** Makes so many documents, and pushes them. */
  async push({ count }) {
    const talks = Array.from({ length: count }, (_, n) => new Talk(newId(), Automerge.from(small(n))))
    state.ids.push(...talks.map(talk => talk.id))
    const connection = await raw("push")
    return { ms: await timed(() => connection.all(talks)) }
  },

  /** The ids of those that were pushed. */
  async ids() {
    return state.ids
  },

  /** As if it had pushed these. */
  async know({ ids }) {
    state.ids = ids
    return {}
  },

  /** Fetches some of those that were pushed. */
  async fetch({ first, count }) {
    const connection = await raw("fetch")
    const ids = state.ids.slice(first, first + count)
    return { ms: await timed(() => connection.all(ids.map(id => new Talk(id)))) }
  },

  /** One edit after the other on one client, each with a while behind it: when the other client has it. */
  async latency({ edits, gap_ms }) {
    const [one, two] = [stock(), stock()]
    state.stock.push(one, two)
    const made = one.repo.create({ n: -1 })
    const found = await find(two.repo, made.url)
    const times = []
    for (let n = 0; n < edits; n++) {
      const seen = new Promise(resolve => found.on("change", ({ doc }) => { if (doc.n === n) resolve() }))
      times.push(await timed(async () => {
        made.change(doc => { doc.n = n })
        await seen
      }))
      found.removeAllListeners("change")
      await sleep(gap_ms)
    }
    return { p50: percentile(times, 50), p99: percentile(times, 99) }
  },

  /** A text of so many changes, each of one character: one of ten takes one away. */
  async write({ file, changes }) {
    let document = Automerge.from({ text: "" })
    let length = 0, random = 1
    const draw = below => (random = (random * 48271) % 2147483647) % below
    // Of what is typed most stands behind what was typed before.
    let at = 0
    for (let n = 0; n < changes; n++) {
      if (draw(JUMP) === 0) at = draw(length + 1)
      const remove = draw(10) === 0 && at !== 0
      document = Automerge.change(document, doc => {
        if (remove) Automerge.splice(doc, ["text"], at - 1, 1)
        else Automerge.splice(doc, ["text"], at, 0, LETTERS[n % LETTERS.length])
      })
      length += remove ? -1 : 1
      at += remove ? -1 : 1
    }
    const saved = Automerge.save(document)
    await writeFile(file, saved)
    return { bytes: saved.length, characters: length }
  },

  /** Pushes such a text. */
  async text({ file }) {
    const document = Automerge.load(await readFile(file))
    state.text = newId()
    const connection = await raw("push")
    return { ms: await timed(() => connection.all([new Talk(state.text, document)])) }
  },

  /** A stock client that has nothing opens the text: the bytes that came. */
  async open() {
    const { socket, repo } = stock()
    state.stock.push({ repo })
    const ms = await timed(async () => { state.handles.push(await find(repo, `automerge:${state.text}`)) })
    await sleep(300)
    return { ms, bytes: socket.socket._socket.bytesRead }
  },

  /** One of the clients that have it open types, another sees all of it. */
  async type({ keys, gap_ms }) {
    const [one, two] = state.handles
    for (let n = 0; n < keys; n++) {
      one.change(doc => Automerge.splice(doc, ["text"], 1000 + n, 0, LETTERS[n % LETTERS.length]))
      await sleep(gap_ms)
    }
    await until(() => JSON.stringify(one.heads()) === JSON.stringify(two.heads()))
    return {}
  },

  /** All clients leave. */
  async leave() {
    for (const { repo } of state.stock) repo.networkSubsystem.disconnect()
    for (const connection of Object.values(state.raw)) connection.close()
    Object.assign(state, { raw: {}, stock: [], handles: [] })
    return {}
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...words } = JSON.parse(line)
  console.log(JSON.stringify(await commands[command](words)))
}
process.exit()
