// Judges results of the HTTP cache test suite: cache-tests.mjs SUITE RESULT...
// Each RESULT maps the name of a test to true, or to [kind of failure, message].
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, ...files] = process.argv.slice(2)
const groups = (await import(pathToFileURL(path.join(suite, 'tests/index.mjs')))).default
const tests = new Map(groups.flatMap(group => group.tests).filter(t => !t.browser_only).map(t => [t.id, t]))
const least = 92 / 105 // of the optional ones

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
  bad ||= passed(required) < required.length || passed(optional) < least * optional.length || setup.length > 0
  const now = JSON.stringify(verdicts)
  if (n === 0) {
    first = now
    for (const [id, v] of verdicts) {
      const kind = tests.get(id).kind ?? 'required'
      if (v !== 'pass' && (kind !== 'check' || v === 'setup')) {
        console.log(`  ${kind} ${v}: ${id}${Array.isArray(results[id]) ? ': ' + results[id][1] : ''}`)
      }
    }
  } else if (now !== first) {
    bad = true
    const before = new Map(JSON.parse(first))
    for (const [id, v] of verdicts) if (before.get(id) !== v) console.log(`  differs from run 1: ${id}: ${before.get(id)}, now ${v}`)
  }
})
process.exitCode = bad ? 1 : 0
