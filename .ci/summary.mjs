// Counts vitest's JSON report; plain JavaScript, because it runs on the machine's own Node.
// A file that could not even be loaded has no tests in the report: it counts as one failure.
import { readFileSync } from 'node:fs'

const count = { passed: 0, failed: 0 }
let problem
try {
  const { testResults } = JSON.parse(readFileSync(process.argv[2], 'utf8'))
  for (const { name, status, message, assertionResults } of testResults) {
    for (const test of assertionResults) {
      if (test.status === 'passed') count.passed++
      else if (test.status === 'failed') count.failed++
      else console.log(`not run (${test.status}): ${test.fullName}`)
    }
    if (status === 'failed' && !assertionResults.some((test) => test.status === 'failed')) {
      count.failed++
      console.log(`failed to load: ${name}: ${message}`)
    }
  }
  if (count.passed + count.failed === 0) problem = 'the report has no tests'
} catch (error) {
  problem = `no report: ${error.message}`
}
if (problem) console.error(problem)
console.log(`${count.passed} passed, ${count.failed} failed`)
process.exitCode = problem || count.failed > 0 ? 1 : 0
