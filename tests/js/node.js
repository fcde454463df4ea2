// Nodes as processes of their own, links to them that can be cut, and stock clients.

import * as Automerge from "@automerge/automerge"
import { Repo } from "@automerge/automerge-repo"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"
import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import net from "node:net"
import { tmpdir } from "node:os"
import path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { world } from "./world.js"

const PROGRAM = process.env.TOMBOLO ?? new URL("../../target/debug/tombolo", import.meta.url).pathname
const PATIENCE_MS = 30_000

/** A node on a data folder; `peers` are other nodes, `settings` variables of its environment. */
export class Node {
  static async start(data, { port = 0, peers = [], settings = {} } = {}) {
    const words = ["serve", "--listen", `127.0.0.1:${port}`, "--data", data]
    for (const peer of peers) words.push("--peer", peer)
    const child = spawn(PROGRAM, words, { stdio: ["ignore", "ignore", "pipe"], env: { TOMBOLO_LOG: "error", ...settings } })
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

/** A stock client in this process. */
class Client {
  static async open(to) {
    return new Client(world({ Automerge, Repo, WebSocketClientAdapter }, `ws://127.0.0.1:${to.port}/v1/_sync`))
  }

  constructor(world) {
    this.world = world
  }

  async run(work, argument) {
    return work(this.world, argument)
  }

  async close() {
    this.world.repo.networkSubsystem.disconnect()
  }
}

/** Runs a test with what it uses, and ends that with it. `open` opens clients. */
export async function scene(run, open = Client.open) {
  const folder = await mkdtemp(path.join(tmpdir(), "tombolo-"))
  const nodes = [], clients = [], links = []
  const kept = (list, one) => { list.push(one); return one }
  try {
    await run({
      node: async (name = "node", options) => kept(nodes, await Node.start(path.join(folder, name), options)),
      link: async node => kept(links, await Link.to(node.port)),
      client: async (...words) => kept(clients, await open(...words)),
    })
  } finally {
    for (const client of clients) await client.close()
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
