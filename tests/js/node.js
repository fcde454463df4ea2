// Nodes as processes of their own, links to them that can be cut, and stock clients.

import { Repo } from "@automerge/automerge-repo"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"
import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import net from "node:net"
import { tmpdir } from "node:os"
import path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

const PROGRAM = process.env.TOMBOLO ?? new URL("../../target/debug/tombolo", import.meta.url).pathname
const PATIENCE_MS = 30_000

/** A node on a data folder; `peers` are other nodes. */
export class Node {
  static async start(data, { port = 0, peers = [] } = {}) {
    const words = ["serve", "--listen", `127.0.0.1:${port}`, "--data", data]
    for (const peer of peers) words.push("--peer", peer)
    const child = spawn(PROGRAM, words, { stdio: ["ignore", "ignore", "pipe"], env: { TOMBOLO_LOG: "error" } })
    const said = await new Promise((resolve, reject) => {
      let text = ""
      child.stderr.on("data", bytes => {
        text += bytes
        if (text.includes("\n")) resolve(text)
      })
      child.on("exit", code => reject(new Error(`the node ended with ${code}: ${text}`)))
    })
    const url = /^listening on (\S+)/.exec(said)[1]
    return new Node(child, url, data)
  }

  constructor(child, url, data) {
    this.child = child
    this.url = url
    this.port = Number(new URL(url).port)
    this.data = data
  }

  async rest(verb, route, body, headers = {}) {
    const init = { method: verb, headers: { "content-type": "application/json", ...headers } }
    if (body !== undefined) init.body = JSON.stringify(body)
    return fetch(`${this.url}/v1/${route}`, init)
  }

  async read(route) {
    const answer = await this.rest("GET", route)
    return answer.ok ? answer.json() : null
  }

  async end(signal) {
    const gone = new Promise(resolve => this.child.once("exit", resolve))
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill(signal)
      await gone
    }
  }

  stop() { return this.end("SIGTERM") }
  kill() { return this.end("SIGKILL") }
}

/** A link to a port of this machine that can be cut and healed. While it is cut, it refuses connections. */
export class Link {
  static async to(port) {
    const link = new Link(port)
    await link.heal()
    return link
  }

  constructor(port) {
    this.port = 0
    this.sockets = new Set()
    this.server = net.createServer(near => {
      const far = net.connect(port, "127.0.0.1")
      for (const [one, other] of [[near, far], [far, near]]) {
        this.sockets.add(one)
        one.pipe(other)
        one.on("error", () => other.destroy())
        one.on("close", () => { this.sockets.delete(one); other.destroy() })
      }
    })
  }

  cut() {
    this.server.close()
    for (const socket of this.sockets) socket.destroy()
  }

  async heal() {
    await new Promise(resolve => this.server.listen(this.port, "127.0.0.1", resolve))
    this.port = this.server.address().port
  }
}

/** What a test uses, and what ends with it. */
export async function scene(test, run) {
  const folder = await mkdtemp(path.join(tmpdir(), "tombolo-"))
  const nodes = [], repos = [], links = []
  const stage = {
    async node(name = "node", options) {
      const node = await Node.start(path.join(folder, name), options)
      nodes.push(node)
      return node
    },
    async link(node) {
      const link = await Link.to(node.port)
      links.push(link)
      return link
    },
    client(to, options = {}) {
      const socket = new WebSocketClientAdapter(`ws://127.0.0.1:${to.port}/v1/_sync`, 200)
      const repo = new Repo({ network: [socket], saveDebounceRate: 1, ...options })
      repos.push(repo)
      return repo
    },
  }
  try {
    await run(stage)
  } finally {
    for (const repo of repos) repo.networkSubsystem.disconnect()
    for (const link of links) link.cut()
    for (const node of nodes) await node.kill()
    await rm(folder, { recursive: true, force: true })
  }
}

/** Waits until something holds. */
export async function until(what, holds) {
  const last = Date.now() + PATIENCE_MS
  for (;;) {
    if (await holds()) return
    if (last < Date.now()) throw new Error(`never: ${what}`)
    await sleep(20)
  }
}

/** Finds a document that may be on its way. */
until.find = async (repo, url) => {
  let found
  await until(`${url} is found`, async () => {
    try { found = await repo.find(url) } catch { return false }
    return true
  })
  return found
}
