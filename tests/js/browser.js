// Stock clients in a browser, each in a tab of its own, with IndexedDB. Run by `make test-browser`.

import { chromium } from "playwright-core"
import assert from "node:assert/strict"
import { after, test } from "node:test"
import { setTimeout as sleep } from "node:timers/promises"
import { scene, until } from "./node.js"
import { scenarios } from "./scenarios.js"
import { world } from "./world.js"

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // There is no sandbox for root.
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
})
after(() => browser.close())

/** A tab on a node, with a stock client in it. */
class Tab {
  /** `context` is whose storage it has; without one, nobody else's. */
  static async open(to, context) {
    context ??= await browser.newContext()
    const page = await context.newPage()
    // Any page of the node's does: what counts is where it comes from.
    await page.goto(`http://127.0.0.1:${to.port}/examples/page.css`)
    await page.evaluate(`(async () => {
      const packages = await import("/examples/automerge-repo.js")
      await packages.initializeWasm(fetch("/examples/automerge.wasm"))
      const url = "ws://" + location.host + "/v1/_sync"
      window.world = (${world})(packages, url, { storage: new packages.IndexedDBStorageAdapter("test") })
    })()`)
    return new Tab(page, context)
  }

  constructor(page, context) {
    this.page = page
    this.context = context
  }

  run(work, argument) {
    return this.page.evaluate(new Function("argument", `return (${work})(window.world, argument)`), argument)
  }

  close() {
    return this.context.close()
  }
}

const inTabs = run => scene(run, Tab.open)

for (const [name, run] of Object.entries(scenarios)) test(name, () => inTabs(run))

test("what was edited offline in a tab that is closed goes out when it is opened again", () => inTabs(async stage => {
  const node = await stage.node()
  const link = await stage.link(node)
  const first = await stage.client(link)
  const url = await first.run(world => world.create({ n: 1 }))
  const route = `automerge/${url.slice("automerge:".length)}`
  await until("it is there", async () => (await node.read(route)) !== null)
  link.cut()
  await sleep(300)
  await first.run(async (world, url) => {
    world.change(url, doc => { doc.n = 2 })
    await world.repo.flush()
  }, url)
  await first.page.close()
  assert.equal((await node.read(route)).n, 1)
  await link.heal()
  const again = await stage.client(link, first.context)
  await again.run((world, url) => world.find(url), url)
  await until("the edit is there", async () => (await node.read(route)).n === 2)
}))

/** The page of examples, and all that it asks for. */
async function examplePage(context, address, asked) {
  const page = await context.newPage()
  page.on("request", request => asked.push(request.url()))
  page.on("websocket", socket => asked.push(socket.url()))
  await page.goto(address)
  await page.locator("#text:enabled").waitFor()
  return page
}

test("the page of examples: what comes while a word is composed stays, and so do line ends", () => scene(async stage => {
  const node = await stage.node()
  const context = await browser.newContext()
  const patches = { "content-type": "application/json-patch+json" }
  const made = async content => (await (await node.rest("POST", "notes", content, typed)).json()).document
  const typed = { "content-type": "application/vnd.tombolo.typed+json" }
  const read = async url => (await node.read(`automerge/${url.slice("automerge:".length)}`))

  // A word is composed, and REST writes before it.
  const page = await examplePage(context, `${node.url}/examples/`, [])
  const url = new URL(page.url()).hash.slice(1)
  const route = `automerge/${url.slice("automerge:".length)}`
  await page.locator("#text").fill("start ")
  await until("it is there", async () => (await read(url))?.text === "start ")
  await page.locator("#text").focus()
  await page.locator("#text").evaluate(text => text.setSelectionRange(6, 6))
  const keyboard = await context.newCDPSession(page)
  await keyboard.send("Input.imeSetComposition", { text: "\u306b", selectionStart: 1, selectionEnd: 1 })
  const patch = [{ op: "splice", path: "/text", at: 0, remove: 0, insert: "BY REST " }]
  assert.equal((await node.rest("PATCH", route, patch, patches)).status, 200)
  await sleep(500)
  await keyboard.send("Input.insertText", { text: "\u65e5" })
  await until("both are there", async () => (await read(url)).text === "BY REST start \u65e5")
  assert.equal(await page.locator("#text").inputValue(), "BY REST start \u65e5")
  assert.equal(await page.locator("#text").evaluate(text => text.selectionStart), 15)

  // Two tabs type offline into a text of Windows' line ends, and beside letters of two halves.
  const windows = await made({ text: { $text: "a\u{1f600}b\r\ncd\r\nef" } })
  const tabs = [await examplePage(context, `${node.url}/examples/#${windows}`, [])]
  tabs.push(await examplePage(context, `${node.url}/examples/#${windows}`, []))
  for (const [tab, at, letter] of [[tabs[0], 3, "\u{1f601}"], [tabs[1], 8, "2"]]) {
    await tab.locator("#online").uncheck()
    await tab.locator("#text").focus()
    await tab.locator("#text").evaluate((text, at) => text.setSelectionRange(at, at), at)
    await tab.keyboard.insertText(letter)
  }
  for (const tab of tabs) await tab.locator("#online").check()
  const stored = await (await fetch(`${node.url}/v1/_changes?values=true`)).json()
  const name = stored.changes.find(change => change.document === windows)
  const whole = "a\u{1f600}\u{1f601}b\r\ncd\r\n2ef"
  await until("both letters are there", async () => (await node.read(`${name.collection}/${name.key}`)).text === whole)
  for (const tab of tabs) {
    await until("both show them", async () => (await tab.locator("#text").inputValue()) === whole.replaceAll("\r\n", "\n"))
  }

  // A deletion, and an edit behind it.
  assert.equal((await node.rest("DELETE", route)).status, 200)
  await sleep(300)
  await page.locator("#text").focus()
  await page.keyboard.insertText("!")
  await until("it lives", async () => (await read(url))?.text.includes("!"))
  await until("and is saved", async () => (await page.locator("#state").textContent()) === "the node has all of it")

  // What the page cannot show, and what is no document.
  const odd = await made({ text: ["a"], count: 1 })
  for (const [hash, said] of [
    [odd, "this page cannot show what that document holds"],
    ["nonsense", "what stands behind # names no document"],
    ["%", "what stands behind # names no document"],
  ]) {
    const other = await context.newPage()
    await other.goto(`${node.url}/examples/#${hash}`)
    await other.locator("#state", { hasText: said }).waitFor()
    assert.equal(await other.locator("#text").isDisabled(), true)
  }
  const encoded = await examplePage(context, `${node.url}/examples/#${encodeURIComponent(url)}`, [])
  await until("an encoded address is one", async () => (await encoded.locator("#text").inputValue()).includes("!"))
  await context.close()
}))

test("the page of examples: two tabs, one of them offline, both edit, and are equal again", () => scene(async stage => {
  const node = await stage.node()
  const context = await browser.newContext()
  const asked = [], wrong = []
  context.on("weberror", error => wrong.push(error.error()))
  context.on("console", line => { if (line.type() === "error") wrong.push(line.text()) })
  const one = await examplePage(context, `${node.url}/examples/`, asked)
  await one.locator("#text").fill("low tide")
  const address = await one.locator("#second").getAttribute("href")
  const two = await examplePage(context, address, asked)
  const shown = page => page.locator("#text").inputValue()
  const count = page => page.locator("#count").textContent()
  await until("the second shows it", async () => (await shown(two)) === "low tide")

  await two.locator("#online").uncheck()
  await one.locator("#text").fill("low tide at noon")
  await one.locator("#more").click()
  await two.locator("#text").fill("a low tide")
  // The caret stays among the letters that it stands at.
  await two.locator("#text").evaluate(text => text.setSelectionRange(5, 5))
  await two.locator("#more").click()
  await two.locator("#more").click()
  await sleep(500)
  assert.deepEqual([await shown(one), await shown(two)], ["low tide at noon", "a low tide"])
  assert.deepEqual([await count(one), await count(two)], ["1", "2"])
  assert.match(await two.locator("#state").textContent(), /^offline; the node has not all of it$/)

  await two.locator("#online").check()
  for (const page of [one, two]) {
    await until("both show both", async () => {
      return (await shown(page)) === "a low tide at noon" && (await count(page)) === "3"
    })
    await until("it is saved", async () => (await page.locator("#state").textContent()) === "the node has all of it")
  }
  assert.equal(await two.locator("#text").evaluate(text => text.selectionStart), 5)
  const id = new URL(address).hash.slice("#automerge:".length)
  assert.deepEqual(await node.read(`automerge/${id}`), { count: 3, text: "a low tide at noon" })
  const patch = [{ op: "splice", path: "/text", at: 0, remove: 1, insert: "The" }]
  await node.rest("PATCH", `automerge/${id}`, patch, { "content-type": "application/json-patch+json" })
  await until("what curl writes shows", async () => (await shown(one)) === "The low tide at noon")

  const elsewhere = asked.filter(url => new URL(url).host !== new URL(node.url).host && !url.startsWith("data:"))
  assert.deepEqual(elsewhere, [], "a request left the node")
  assert.deepEqual(wrong, [])
  await context.close()
}))
