// The unmodified packages from npm against real nodes.

import * as Automerge from "@automerge/automerge"
import assert from "node:assert/strict"
import { test } from "node:test"
import { setTimeout as sleep } from "node:timers/promises"
import { scene, until } from "./node.js"

const NOWHERE = "automerge:4NMNnkMhL8jXrdJ9jamS58PAVdXu"

test("a document that one client makes another finds, and REST reads", () => scene(test, async stage => {
  const node = await stage.node()
  const [one, two] = [stage.client(node), stage.client(node)]
  const made = one.create({ title: "hello", n: 1, at: new Date(86_400_000), bytes: new Uint8Array([1, 2]) })
  await until("REST reads it", async () => (await node.read(`automerge/${made.documentId}`)) !== null)
  const found = await two.find(made.url)
  assert.deepEqual(found.doc(), made.doc())
  found.change(doc => { doc.title = "from two" })
  await until("the first has it", () => made.doc().title === "from two")
  assert.equal((await node.read(`automerge/${made.documentId}`)).title, "from two")
}))

test("what is edited apart, also by REST, becomes one", () => scene(test, async stage => {
  const node = await stage.node()
  const link = await stage.link(node)
  const [apart, there] = [stage.client(link), stage.client(node)]
  const mine = apart.create({ text: "", count: new Automerge.Counter(0), list: ["a"] })
  const theirs = await there.find(mine.url)
  link.cut()
  await sleep(300)
  mine.change(doc => {
    Automerge.splice(doc, ["text"], 0, 0, "mine")
    doc.count.increment(1)
    doc.list.push("b")
  })
  theirs.change(doc => {
    doc.other = true
    doc.count.increment(10)
    doc.list.unshift("c")
  })
  const patch = [{ op: "increment", path: "/count", by: 100 }]
  const fields = { "content-type": "application/json-patch+json" }
  await until("the node has theirs", async () => (await node.read(`automerge/${mine.documentId}`)).other)
  assert.equal((await node.rest("PATCH", `automerge/${mine.documentId}`, patch, fields)).status, 200)
  assert.equal(mine.doc().other, undefined, "it is apart")
  await link.heal()
  const whole = { text: "mine", count: 111, list: ["c", "a", "b"], other: true }
  const is = async value => JSON.stringify(await value) === JSON.stringify(await node.read(`automerge/${mine.documentId}`))
  const plain = handle => ({ count: handle.doc().count.value, list: [...handle.doc().list], other: handle.doc().other, text: handle.doc().text })
  await until("all have all", async () => await is(plain(mine)) && await is(plain(theirs)))
  assert.deepEqual(await node.read(`automerge/${mine.documentId}`), whole)
}))

test("what is nowhere is unavailable, and there when it comes", () => scene(test, async stage => {
  const node = await stage.node()
  const client = stage.client(node)
  await assert.rejects(client.find(NOWHERE), /unavailable/)
  const answer = await node.rest("PUT", `automerge/${NOWHERE.slice("automerge:".length)}`, { n: 1 })
  assert.equal(answer.status, 201)
  await until("it is found", async () => {
    try { return (await client.find(NOWHERE)).doc().n === 1 } catch { return false }
  })
}))

test("what clients say to each other arrives", () => scene(test, async stage => {
  const node = await stage.node()
  const [one, two] = [stage.client(node), stage.client(node)]
  const made = one.create({ n: 1 })
  const found = await two.find(made.url)
  const heard = []
  found.on("ephemeral-message", ({ message }) => heard.push(message))
  made.broadcast({ cursor: 7 })
  await until("it is heard", () => heard.length === 1)
  assert.deepEqual(heard, [{ cursor: 7 }])
}))

test("five hundred documents at once", () => scene(test, async stage => {
  const node = await stage.node()
  const author = stage.client(node)
  const made = Array.from({ length: 500 }, (_, n) => author.create({ n }))
  await until("the node has all", async () => {
    const page = await node.read("automerge?limit=1000&values=false")
    return page?.documents.length === 500
  })
  const reader = stage.client(node)
  const found = await Promise.all(made.map(handle => reader.find(handle.url)))
  assert.deepEqual(found.map(handle => handle.doc().n), made.map((_, n) => n))
}))

test("a document of five megabytes", () => scene(test, async stage => {
  const node = await stage.node()
  const [author, reader] = [stage.client(node), stage.client(node)]
  let random = 1
  const byte = () => (random = (random * 48271) % 2147483647) & 255
  const made = author.create({ bytes: Uint8Array.from({ length: 5 << 20 }, byte) })
  const found = await until.find(reader, made.url)
  assert.deepEqual(found.doc().bytes, made.doc().bytes)
  found.change(doc => { doc.n = 1 })
  await until("an edit comes back", () => made.doc().n === 1)
}))

test("a node that starts again is found again", () => scene(test, async stage => {
  const node = await stage.node()
  const client = stage.client(node)
  const made = client.create({ n: 1 })
  await until("it is there", async () => (await node.read(`automerge/${made.documentId}`)) !== null)
  await node.stop()
  made.change(doc => { doc.n = 2 })
  const again = await stage.node("node", { port: node.port })
  await until("it has the edit", async () => (await again.read(`automerge/${made.documentId}`)).n === 2)
}))

test("what was acknowledged is there after kill -9", () => scene(test, async stage => {
  let node = await stage.node()
  const client = stage.client(node)
  const made = client.create({ n: 0 })
  const storage = await new Promise(resolve => {
    client.networkSubsystem.on("peer", ({ peerMetadata }) => resolve(peerMetadata.storageId))
  })
  for (let n = 1; n <= 5; n++) {
    made.change(doc => { doc.n = n })
    await until("it is acknowledged", () => {
      const heads = made.getSyncInfo(storage)?.lastHeads
      return JSON.stringify(heads) === JSON.stringify(made.heads())
    })
    await node.kill()
    node = await stage.node("node", { port: node.port })
    assert.equal((await node.read(`automerge/${made.documentId}`)).n, n)
  }
}))

test("clients of two nodes", () => scene(test, async stage => {
  const first = await stage.node("first")
  const second = await stage.node("second", { peers: [first.url] })
  const [one, two] = [stage.client(first), stage.client(second)]
  const made = one.create({ n: 1 })
  const found = await until.find(two, made.url)
  found.change(doc => { doc.n = 2 })
  await until("the edit comes back", () => made.doc().n === 2)
  // Both ways, though only the second node was told of the other.
  for (const [here, there] of [[made, found], [found, made]]) {
    const heard = []
    there.on("ephemeral-message", ({ message }) => heard.push(message))
    await until("it is heard", () => { here.broadcast({ hi: 1 }); return heard.length !== 0 })
  }
}))

test("a client and REST on the same text and counter", () => scene(test, async stage => {
  const node = await stage.node()
  const client = stage.client(node)
  const made = client.create({ text: "hello world", count: new Automerge.Counter(1) })
  const route = `automerge/${made.documentId}`
  await until("it is there", async () => (await node.read(route)) !== null)
  made.change(doc => {
    Automerge.splice(doc, ["text"], 5, 0, ",")
    doc.count.increment(1)
  })
  const patch = [
    { op: "splice", path: "/text", at: 0, remove: 1, insert: "J" },
    { op: "increment", path: "/count", by: 5 },
  ]
  const fields = { "content-type": "application/json-patch+json" }
  const answer = await node.rest("PATCH", route, patch, fields)
  assert.equal(answer.status, 200, await answer.text())
  await until("both have both", async () => {
    const there = await node.read(route)
    return there.text === "Jello, world" && there.count === 7 && made.doc().text === there.text && made.doc().count.value === 7
  })
}))

test("a document that REST deletes is gone for clients, and does not come back by itself", () => scene(test, async stage => {
  const node = await stage.node()
  const [one, two] = [stage.client(node), stage.client(node)]
  const made = one.create({ n: 1 })
  await until("it is there", async () => (await node.read(`automerge/${made.documentId}`)) !== null)
  assert.equal((await node.rest("DELETE", `automerge/${made.documentId}`)).status, 200)
  await assert.rejects(two.find(made.url), /unavailable/)
  const again = stage.client(node)
  again.import(Automerge.save(made.doc()), { docId: made.documentId })
  await sleep(500)
  assert.equal(await node.read(`automerge/${made.documentId}`), null)
}))
