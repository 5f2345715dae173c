// Judges results of the HTTP cache test suite: cache-tests.mjs SUITE RESULT...
// Each RESULT maps the name of a test to true, or to [kind of failure, message].
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, ...files] = process.argv.slice(2)
const groups = (await import(pathToFileURL(path.join(suite, 'tests/index.mjs')))).default
const tests = new Map(groups.flatMap(group => group.tests).filter(t => !t.browser_only).map(t => [t.id, t]))

// What the edge leaves out on purpose, of the optional tests.
const leftOut = new Set([
  // An error without a lifetime is not kept, and answers to POST never are.
  'heuristic-501-cached', 'heuristic-599-cached', 'method-POST',
  // Accept-Language is compared like any other field.
  'vary-normalise-lang-order', 'vary-normalise-lang-case', 'vary-normalise-lang-select',
  // Without Last-Modified, Date stands in for it (RFC 9111 4.3.2), and it is later.
  'conditional-lm-fresh-no-lm',
  // Parts are not stored one by one.
  'partial-store-partial-reuse-partial', 'partial-store-partial-reuse-partial-byterange', 'partial-store-partial-reuse-partial-absent',
  'partial-store-partial-reuse-partial-suffix', 'partial-store-partial-complete'
])

// What release 0.4.5 expects and the suite has corrected since: malformed Age
// fields are ignored, a 502 of the cache's own is no stale answer, and a 304 need
// not update every field.
const corrected = new Set(groups.some(group => group.id === 'cdn-cache-control')
  ? []
  : [
      ...['nonnumeric', 'negative', 'float', 'prefix-twoline', 'dup-0', 'dup-0-twoline', 'dup-old', 'parameter', 'numeric-parameter']
        .map(name => 'age-parse-' + name),
      ...['must-revalidate', 'proxy-revalidate', 'no-cache', 's-maxage=2'].map(name => 'stale-close-' + name),
      '304-etag-update-response-Content-Type', '304-etag-update-response-ETag'
    ])
for (const id of corrected) tests.delete(id)

// verdict is 'pass', 'fail', 'setup' (the test could not be made) or 'dependency'
// (a test it builds on does not pass, so it says nothing), or 'retry' (the origin
// was asked twice where the test counts on one request).
function verdict (results, id) {
  const result = results[id]
  for (const other of tests.get(id)?.depends_on ?? []) {
    if (verdict(results, other) !== 'pass') return 'dependency'
  }
  if (result === true) return 'pass'
  if (result?.[1] === 'retry') return 'retry'
  return result === undefined || result[0] !== 'Assertion' ? 'setup' : 'fail'
}

let bad = false
if (corrected.size > 0) console.log(`left out: ${corrected.size} tests of this release that the suite has corrected since`)
let first
files.forEach((file, n) => {
  const results = JSON.parse(fs.readFileSync(file))
  const verdicts = [...tests.keys()].map(id => [id, verdict(results, id)])
  const of = kind => verdicts.filter(([id]) => (tests.get(id).kind ?? 'required') === kind)
  const passed = list => list.filter(([, v]) => v === 'pass').length
  const required = of('required')
  const optional = of('optimal')
  const checks = of('check')
  const setup = verdicts.filter(([, v]) => v === 'setup')
  console.log(`run ${n + 1}: required ${passed(required)}/${required.length}, optional ${passed(optional)}/${optional.length}, ` +
    `observed ${passed(checks)}/${checks.length}, not set up ${setup.length}`)
  bad ||= passed(required) < required.length || setup.length > 0 ||
    optional.some(([id, v]) => v !== 'pass' && !leftOut.has(id))
  const now = JSON.stringify(verdicts)
  if (n === 0) {
    first = now
    for (const [id, v] of verdicts) {
      const kind = tests.get(id).kind ?? 'required'
      if (v !== 'pass' && (kind !== 'check' || v === 'setup')) {
        console.log(`  ${leftOut.has(id) ? 'left out' : kind + ' ' + v}: ${id}${Array.isArray(results[id]) ? ': ' + results[id][1] : ''}`)
      }
    }
  } else if (now !== first) {
    bad = true
    const before = new Map(JSON.parse(first))
    for (const [id, v] of verdicts) if (before.get(id) !== v) console.log(`  differs from run 1: ${id}: ${before.get(id)}, now ${v}`)
  }
})
process.exitCode = bad ? 1 : 0
