// What automerge-repo's packages make of a server: their WebSocket adapter and their storage in files, and
// the sharing policy of their own sync server. Its one argument is the folder for data.

import { Repo } from "@automerge/automerge-repo"
import { WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket"
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"
import { WebSocketServer } from "ws"

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 64 << 20 })
new Repo({
  network: [new WebSocketServerAdapter(server)],
  storage: new NodeFSStorageAdapter(process.argv[2]),
  sharePolicy: async () => false,
})
server.on("listening", () => console.error(`listening on http://127.0.0.1:${server.address().port}`))
