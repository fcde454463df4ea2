// What stock clients and nodes do together, wherever the clients run. A client is told to `run` a function of its
// world (`world.js`) and of one more value: the function names nothing else, since it may run in a page.

import assert from "node:assert/strict"
import { setTimeout as sleep } from "node:timers/promises"
import { until } from "./node.js"

const NOWHERE = "automerge:4NMNnkMhL8jXrdJ9jamS58PAVdXu"
const JSON_PATCH = { "content-type": "application/json-patch+json" }
const TYPED = "application/vnd.tombolo.typed+json"

const id = url => url.slice("automerge:".length)
const route = url => `automerge/${id(url)}`
const there = (node, url) => until(`${url} is at the node`, async () => (await node.read(route(url))) !== null)
/** A document as JSON. */
const json = (client, url) => client.run((world, url) => JSON.parse(JSON.stringify(world.doc(url))), url)
const find = (client, url) => client.run((world, url) => world.find(url), url)
const found = (client, url) => until(`${url} is found`, () => find(client, url).then(() => true, () => false))
const equal = (one, two) => JSON.stringify(one) === JSON.stringify(two)

export const scenarios = {
  async "a document that one client makes another finds, and REST reads"(stage) {
    const node = await stage.node()
    const [one, two] = [await stage.client(node), await stage.client(node)]
    const url = await one.run(world => world.create({ title: "hello", n: 1 }))
    await there(node, url)
    await find(two, url)
    assert.deepEqual(await json(two, url), { title: "hello", n: 1 })
    await two.run((world, url) => world.change(url, doc => { doc.title = "from two" }), url)
    await until("the first has it", async () => (await json(one, url)).title === "from two")
    assert.equal((await node.read(route(url))).title, "from two")
  },

  async "types are the same on both sides"(stage) {
    const node = await stage.node()
    const client = await stage.client(node)
    const url = await client.run(world => {
      const { Counter, ImmutableString, mark } = world.Automerge
      const url = world.create({
        text: "bold", plain: new ImmutableString("open"), count: new Counter(3), at: new Date(86_400_000),
        bytes: new Uint8Array([1, 2]), whole: 1, part: 0.5, yes: true, nothing: null, list: [{ deep: ["x"] }],
      })
      world.change(url, doc => mark(doc, ["text"], { start: 0, end: 2, expand: "both" }, "strong", true))
      return url
    })
    await there(node, url)
    await until("the mark, too", () => client.run((world, url) => world.saved(url), url))
    const read = async () => (await node.rest("GET", route(url), undefined, { accept: TYPED })).json()
    assert.deepEqual(await read(), {
      at: { $timestamp: "1970-01-02T00:00:00.000Z" }, bytes: { $bytes: "AQI=" }, count: { $counter: 3 },
      list: [{ deep: [{ $text: "x" }] }], nothing: null, part: 0.5, plain: "open", text: { $text: "bold" },
      whole: 1, yes: true,
    })
    // Plain JSON leaves types, and the marks of letters that stay, as they are.
    const written = {
      at: "1970-01-03T00:00:00.000Z", bytes: "AwQ=", count: 5, list: [{ deep: ["x"] }], nothing: null, part: 1.5,
      plain: "closed", text: "bolder", whole: 2, yes: false,
    }
    assert.equal((await node.rest("PUT", route(url), written)).status, 200)
    assert.equal((await node.rest("PATCH", route(url), [
      { op: "add", path: "/typed", value: { $text: "a text" } },
      { op: "add", path: "/string", value: "a value" },
    ], { "content-type": "application/json-patch+json;typed" })).status, 200)
    await until("the client has it", async () => (await json(client, url)).typed === "a text")
    assert.deepEqual(await client.run((world, url) => {
      const doc = world.doc(url), { Automerge } = world
      return {
        at: doc.at instanceof Date && doc.at.getTime(), bytes: doc.bytes instanceof Uint8Array && [...doc.bytes],
        count: doc.count instanceof Automerge.Counter && doc.count.value,
        marks: Automerge.marks(doc, ["text"]), text: doc.text, typed: doc.typed, deep: doc.list[0].deep[0],
        plain: [doc.plain, doc.string].map(it => it instanceof Automerge.ImmutableString && it.val),
        others: [doc.whole, doc.part, doc.yes, doc.nothing],
      }
    }, url), {
      at: 172_800_000, bytes: [3, 4], count: 5,
      marks: [{ name: "strong", value: true, start: 0, end: 2 }], text: "bolder", typed: "a text", deep: "x",
      plain: ["closed", "a value"], others: [2, 1.5, false, null],
    })
  },

  async "what REST writes is edited letter by letter where a collection says so"(stage) {
    const node = await stage.node("node", { settings: { TOMBOLO_COLLECTION__NOTES__STRINGS: "text" } })
    const client = await stage.client(node)
    const made = await (await node.rest("PUT", "notes/monday", { body: "low tide", tags: ["a"] })).json()
    await found(client, made.document)
    await client.run((world, url) => world.change(url, doc => {
      world.Automerge.splice(doc, ["body"], 8, 0, " at noon")
      world.Automerge.splice(doc, ["tags", 0], 1, 0, "b")
    }), made.document)
    const seen = { parents: made.version.map(hash => `"${hash}"`).join(", ") }
    assert.equal((await node.rest("PUT", "notes/monday", { body: "a low tide", tags: ["a"] }, seen)).status, 200)
    const whole = { body: "a low tide at noon", tags: ["ab"] }
    await until("both edits show", async () => {
      return equal(await node.read("notes/monday"), whole) && equal(await json(client, made.document), whole)
    })
  },

  async "what is edited apart, also by REST, becomes one"(stage) {
    const node = await stage.node()
    const link = await stage.link(node)
    const [apart, beside] = [await stage.client(link), await stage.client(node)]
    const url = await apart.run(world => {
      return world.create({ text: "", count: new world.Automerge.Counter(0), list: ["a"] })
    })
    await there(node, url)
    await find(beside, url)
    link.cut()
    await sleep(300)
    await apart.run((world, url) => world.change(url, doc => {
      world.Automerge.splice(doc, ["text"], 0, 0, "mine")
      doc.count.increment(1)
      doc.list.push("b")
    }), url)
    await beside.run((world, url) => world.change(url, doc => {
      doc.other = true
      doc.count.increment(10)
      doc.list.unshift("c")
    }), url)
    await until("the node has theirs", async () => (await node.read(route(url))).other)
    const patch = [{ op: "increment", path: "/count", by: 100 }]
    assert.equal((await node.rest("PATCH", route(url), patch, JSON_PATCH)).status, 200)
    assert.equal((await json(apart, url)).other, undefined, "it is apart")
    await link.heal()
    const whole = { count: 111, list: ["c", "a", "b"], other: true, text: "mine" }
    const sorted = async client => Object.fromEntries(Object.entries(await json(client, url)).sort())
    await until("all have all", async () => {
      return equal(await sorted(apart), whole) && equal(await sorted(beside), whole)
    })
    assert.deepEqual(await node.read(route(url)), whole)
  },

  async "what is nowhere is unavailable, and there when it comes"(stage) {
    const node = await stage.node()
    const client = await stage.client(node)
    await assert.rejects(find(client, NOWHERE), /unavailable/)
    assert.equal((await node.rest("PUT", route(NOWHERE), { n: 1 })).status, 201)
    await found(client, NOWHERE)
    assert.deepEqual(await json(client, NOWHERE), { n: 1 })
  },

  async "what clients say to each other arrives"(stage) {
    const node = await stage.node()
    const [one, two] = [await stage.client(node), await stage.client(node)]
    const url = await one.run(world => world.create({ n: 1 }))
    await there(node, url)
    await find(two, url)
    await one.run((world, url) => world.broadcast(url, { cursor: 7 }), url)
    await until("it is heard", async () => (await two.run(world => world.heard)).length === 1)
    assert.deepEqual(await two.run(world => world.heard), [{ cursor: 7 }])
  },

  async "five hundred documents at once"(stage) {
    const node = await stage.node()
    const [author, reader] = [await stage.client(node), await stage.client(node)]
    const urls = await author.run(world => Array.from({ length: 500 }, (_, n) => world.create({ n })))
    await until("the node has all", async () => {
      return (await node.read("automerge?limit=1000&values=false"))?.documents.length === 500
    })
    const numbers = await reader.run(async (world, urls) => {
      await Promise.all(urls.map(url => world.find(url)))
      return urls.map(url => world.doc(url).n)
    }, urls)
    assert.deepEqual(numbers, urls.map((_, n) => n))
  },

  async "a document of five megabytes"(stage) {
    const node = await stage.node()
    const [author, reader] = [await stage.client(node), await stage.client(node)]
    const sum = (client, url) => client.run((world, url) => world.doc(url).bytes.reduce((sum, byte) => (sum * 31 + byte) | 0, 0), url)
    const url = await author.run(world => {
      let random = 1
      const byte = () => (random = (random * 48271) % 2147483647) & 255
      return world.create({ bytes: Uint8Array.from({ length: 5 << 20 }, byte) })
    })
    await there(node, url)
    await found(reader, url)
    assert.equal(await sum(reader, url), await sum(author, url))
    await reader.run((world, url) => world.change(url, doc => { doc.n = 1 }), url)
    await until("an edit comes back", () => author.run((world, url) => world.doc(url).n === 1, url))
  },

  async "a node that starts again is found again"(stage) {
    const node = await stage.node()
    const client = await stage.client(node)
    const url = await client.run(world => world.create({ n: 1 }))
    await there(node, url)
    await node.stop()
    await client.run((world, url) => world.change(url, doc => { doc.n = 2 }), url)
    const again = await stage.node("node", { port: node.port })
    await until("it has the edit", async () => (await again.read(route(url))).n === 2)
  },

  async "what was acknowledged is there after kill -9"(stage) {
    let node = await stage.node()
    const client = await stage.client(node)
    const url = await client.run(world => world.create({ n: 0 }))
    for (let n = 1; n <= 5; n++) {
      await client.run((world, { url, n }) => world.change(url, doc => { doc.n = n }), { url, n })
      await until("it is acknowledged", () => client.run((world, url) => world.saved(url), url))
      await node.kill()
      node = await stage.node("node", { port: node.port })
      assert.equal((await node.read(route(url))).n, n)
    }
  },

  async "clients of two nodes"(stage) {
    const first = await stage.node("first")
    const second = await stage.node("second", { peers: [first.url] })
    const [one, two] = [await stage.client(first), await stage.client(second)]
    const url = await one.run(world => world.create({ n: 1 }))
    await found(two, url)
    await two.run((world, url) => world.change(url, doc => { doc.n = 2 }), url)
    await until("the edit comes back", async () => (await json(one, url)).n === 2)
    // Both ways, though only the second node was told of the other.
    for (const [here, other] of [[one, two], [two, one]]) {
      await until("it is heard", async () => {
        await here.run((world, url) => world.broadcast(url, { hi: 1 }), url)
        return (await other.run(world => world.heard)).length !== 0
      })
    }
  },

  async "what REST makes on one node a client of another finds by its URL"(stage) {
    const first = await stage.node("first")
    const second = await stage.node("second", { peers: [first.url] })
    const client = await stage.client(second)
    const made = await (await first.rest("PUT", "notes/monday", { title: { at: "noon" } })).json()
    await found(client, made.document)
    assert.deepEqual((await json(client, made.document)).title, { at: "noon" })
    await client.run((world, url) => world.change(url, doc => { doc.done = true }), made.document)
    await until("REST reads it where it was made", async () => (await first.read("notes/monday")).done)
  },

  async "a client and REST on the same text and counter"(stage) {
    const node = await stage.node()
    const client = await stage.client(node)
    const url = await client.run(world => {
      return world.create({ text: "hello world", count: new world.Automerge.Counter(1) })
    })
    await there(node, url)
    await client.run((world, url) => world.change(url, doc => {
      world.Automerge.splice(doc, ["text"], 5, 0, ",")
      doc.count.increment(1)
    }), url)
    const patch = [
      { op: "splice", path: "/text", at: 0, remove: 1, insert: "J" },
      { op: "increment", path: "/count", by: 5 },
    ]
    const answer = await node.rest("PATCH", route(url), patch, JSON_PATCH)
    assert.equal(answer.status, 200, await answer.text())
    const whole = { count: 7, text: "Jello, world" }
    await until("both have both", async () => {
      const { text, count } = await json(client, url)
      return equal(await node.read(route(url)), whole) && equal({ count, text }, whole)
    })
  },

  async "a document that REST deletes is gone for clients, and does not come back by itself"(stage) {
    const node = await stage.node()
    const [one, two] = [await stage.client(node), await stage.client(node)]
    const url = await one.run(world => world.create({ n: 1 }))
    await there(node, url)
    assert.equal((await node.rest("DELETE", route(url))).status, 200)
    await assert.rejects(find(two, url), /unavailable/)
    const saved = await one.run((world, url) => [...world.Automerge.save(world.doc(url))], url)
    const again = await stage.client(node)
    await again.run((world, { saved, id }) => world.import(Uint8Array.from(saved), id), { saved, id: id(url) })
    await sleep(500)
    assert.equal(await node.read(route(url)), null)
  },

  async "a client that comes and goes in a loop costs the others nothing"(stage) {
    const node = await stage.node()
    const [steady, other] = [await stage.client(node), await stage.client(node)]
    const url = await steady.run(world => world.create({ n: 0 }))
    await there(node, url)
    await find(other, url)
    for (let n = 1; n <= 50; n++) {
      await other.run(async world => {
        const links = world.repo.networkSubsystem
        const joined = new Promise(resolve => links.once("peer", resolve))
        links.disconnect()
        links.reconnect()
        await joined
      })
      await steady.run((world, { url, n }) => world.change(url, doc => { doc.n = n }), { url, n })
    }
    for (const client of [steady, other]) {
      await until("both have the last edit", async () => (await json(client, url)).n === 50)
    }
    assert.equal((await node.read(route(url))).n, 50)
  },
}
