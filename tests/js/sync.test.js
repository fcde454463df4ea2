// Stock clients in Node.js.

import { test } from "node:test"
import { scene } from "./node.js"
import { scenarios } from "./scenarios.js"

for (const [name, run] of Object.entries(scenarios)) test(name, () => scene(run))
