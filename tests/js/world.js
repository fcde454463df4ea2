// A stock client, and what tests do with it. The same text runs in Node.js and, sent over, in a browser's page:
// it names nothing but what it is given.

/** A client of the node at `url`. `packages` are npm's, `options` those of its `Repo`. */
export function world({ Automerge, Repo, WebSocketClientAdapter }, url, options) {
  const repo = new Repo({ network: [new WebSocketClientAdapter(url, 200)], saveDebounceRate: 1, ...options })
  const handles = new Map(), heard = []
  const storage = new Promise(resolve => {
    repo.networkSubsystem.on("peer", ({ peerMetadata }) => resolve(peerMetadata.storageId))
  })
  const keep = handle => {
    if (!handles.has(handle.url)) handle.on("ephemeral-message", ({ message }) => heard.push(message))
    handles.set(handle.url, handle)
    return handle.url
  }
  return {
    Automerge, repo, heard,
    /** Makes a document, and gives its URL. */
    create: content => keep(repo.create(content)),
    /** Takes a saved document in under an id. */
    import: (bytes, docId) => keep(repo.import(bytes, { docId })),
    find: async url => keep(await repo.find(url)),
    doc: url => handles.get(url).doc(),
    change: (url, edit) => handles.get(url).change(edit),
    broadcast: (url, message) => handles.get(url).broadcast(message),
    /** Whether the node has said that it has all of it. */
    saved: async url => {
      const heads = handles.get(url).getSyncInfo(await storage)?.lastHeads
      return JSON.stringify(heads) === JSON.stringify(handles.get(url).heads())
    },
  }
}
