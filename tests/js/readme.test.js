// The README's example, as it stands there: begun without a node, and then with one.

import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { readFile, rm, writeFile } from "node:fs/promises"
import { test } from "node:test"
import { setTimeout as sleep } from "node:timers/promises"
import { Link, scene, until } from "./node.js"

test("the README's example works offline, and then online", () => scene(async stage => {
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8")
  const [, example] = /```js\n([^]*?)```/.exec(readme)
  const node = await stage.node()
  const link = await Link.to(node.port)
  const port = link.port
  link.cut()
  const file = new URL(`readme-${process.pid}.js`, import.meta.url)
  await writeFile(file, example.replaceAll("127.0.0.1:7420", `127.0.0.1:${port}`))
  const program = spawn(process.execPath, [file.pathname], { stdio: ["ignore", "pipe", "inherit"] })
  try {
    let said = ""
    program.stdout.on("data", bytes => { said += bytes })
    await until("it says where its document is", () => said.includes("/v1/automerge/"))
    const id = /automerge\/(\S+)/.exec(said)[1]
    await sleep(300)
    assert.equal(await node.read(`automerge/${id}`), null, "it is offline")
    await link.heal()
    await until("the node has it", async () => (await node.read(`automerge/${id}`)) !== null)
    assert.deepEqual(await node.read(`automerge/${id}`), { items: ["bread", "milk"] })
    const patch = [{ op: "add", path: "/items/0", value: "tea" }]
    const fields = { "content-type": "application/json-patch+json" }
    assert.equal((await node.rest("PATCH", `automerge/${id}`, patch, fields)).status, 200)
    await until("it hears of it", () => said.includes("tea"))
  } finally {
    program.kill()
    link.cut()
    await rm(file, { force: true })
  }
}))
