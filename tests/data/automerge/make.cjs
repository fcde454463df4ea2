// Makes npm-VERSION.automerge: node make.cjs FOLDER_OF_THE_PACKAGE npm-VERSION.automerge
// The packages: automerge 1.0.1-preview.7 (the one in JavaScript), @automerge/automerge 2.2.9 and 3.2.0.
const [, , folder, out] = process.argv
const A = require(folder)
const text = (d) => {
  d.body = 'hello world'
  A.splice(d, ['body'], 5, 0, ', wide')
  A.mark(d, ['body'], { start: 0, end: 5, expand: 'both' }, 'bold', true)
}
let doc = A.init('07'.repeat(16))
doc = A.change(doc, { message: 'begun', time: 1700000000 }, (d) => {
  d.title = 'Tide tables'
  Object.assign(d, { count: 3, ratio: 0.5, big: 9007199254740991, yes: true, none: null })
  d.date = new Date(1700000000123)
  d.bytes = new Uint8Array([1, 2, 254])
  d.emoji = '😀é'
  d.likes = new A.Counter(1)
  d.list = [1, 'two', { three: 3 }, [4]]
  d.map = { deep: { deeper: { x: 1 } } }
  const Scalar = A.ImmutableString || A.RawString
  if (Scalar && A.mark) d.raw = new Scalar('scalar')
})
let other = A.clone(doc, '08'.repeat(16))
for (let n = 0; n < 30; n++) {
  doc = A.change(doc, { time: 1700000001 + n }, (d) => {
    d.count = n
    d.likes.increment(2)
    d.list.push(n)
  })
}
other = A.change(other, { time: 1700000100 }, (d) => {
  d.title = 'Tides'
  d.map.other = 'b'
  d.list.splice(1, 1)
  d.likes.increment(5)
})
doc = A.change(doc, { time: 1700000101 }, (d) => {
  d.title = 'Ebb'
  delete d.none
})
doc = A.merge(doc, other)
try {
  doc = A.change(doc, { time: 1700000102 }, text)
} catch {
  // A version whose strings are no texts.
}
require('fs').writeFileSync(out, A.save(doc))
