// Makes what the page of `src/http/examples` needs of npm's packages: one script, and Automerge's code of
// WebAssembly, both packed. Their licences stand at the end of the script.
//
//   node bundle.js            writes them
//   node bundle.js --check    fails unless they are what would be written

import { build } from "esbuild"
import { readFile, readdir, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import path from "node:path"
import { gunzipSync, gzipSync } from "node:zlib"

const FOLDER = new URL("../../src/http/examples/", import.meta.url)
const ENTRY = `
export * as Automerge from "@automerge/automerge/slim"
export { Repo, initializeWasm, isValidAutomergeUrl } from "@automerge/automerge-repo/slim"
export { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"
export { IndexedDBStorageAdapter } from "@automerge/automerge-repo-storage-indexeddb"
`

/** The licences of all packages that are in it. */
async function licences(inputs) {
  const folders = new Set()
  for (const input of Object.keys(inputs)) {
    const found = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input)
    if (found) folders.add(found[1])
  }
  const texts = await Promise.all([...folders].sort().map(async folder => {
    const { name, version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"))
    const file = (await readdir(folder)).find(file => /^licen[cs]e/i.test(file))
    const text = file ? await readFile(path.join(folder, file), "utf8") : "(the package holds no text of it)"
    return `${name} ${version}: ${license}\n\n${text.replaceAll("*/", "* /").trim()}\n`
  }))
  return `/*!\n${texts.join("\n")}*/\n`
}

const built = await build({
  stdin: { contents: ENTRY, resolveDir: import.meta.dirname },
  bundle: true, format: "esm", minify: true, target: "es2022", platform: "browser", legalComments: "none",
  write: false, metafile: true, absWorkingDir: import.meta.dirname,
})
const script = Buffer.from(built.outputFiles[0].text + await licences(built.metafile.inputs))
const wasm = await readFile(createRequire(import.meta.url).resolve("@automerge/automerge/automerge.wasm"))
for (const [name, bytes] of [["automerge-repo.js.gz", script], ["automerge.wasm.gz", wasm]]) {
  const file = new URL(name, FOLDER)
  if (!process.argv.includes("--check")) {
    await writeFile(file, gzipSync(bytes, { level: 9 }))
  } else if (!gunzipSync(await readFile(file)).equals(bytes)) {
    throw new Error(`${name} is not what the packages make: run \`node bundle.js\``)
  }
}
