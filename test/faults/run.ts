import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { OUTCOMES, type Outcome } from './oracle.ts'

/** `npm run test:faults`: every fault in its long form, one after the other so that none is judged under the load of another, then what came of them as one table. */
rmSync(OUTCOMES, { recursive: true, force: true })
const vitest = join(import.meta.dirname, '..', '..', 'node_modules', '.bin', 'vitest')
const { status } = spawnSync(vitest, ['run', 'test/faults', '--no-file-parallelism', ...process.argv.slice(2)], { stdio: 'inherit', env: { ...process.env, OVERRUN_FAULTS_LONG: '1' } })

const outcomes = existsSync(OUTCOMES) ? readdirSync(OUTCOMES).map((file) => JSON.parse(readFileSync(join(OUTCOMES, file), 'utf8')) as Outcome) : []
const widest = Math.max(5, ...outcomes.map(({ fault }) => fault.length))
const line = (...cells: (string | number)[]) => console.log(cells.map((cell, index) => (index === 0 ? String(cell).padEnd(widest) : String(cell).padStart(13))).join(''))
console.log()
line('fault', 'times', 'acknowledged', 'lost', 'duplicated', 'dead letters', 'recovery, s')
for (const { fault, times, acknowledged, lost, duplicated, letters, seconds, note } of outcomes) line(fault, times, acknowledged, lost, duplicated, letters, seconds ?? '-', note === undefined ? '' : `  ${note}`)
const kills = outcomes.filter(({ fault }) => fault.startsWith('kill -9')).reduce((sum, { times }) => sum + times, 0)
console.log(`\n${kills} kills; ${outcomes.reduce((sum, { acknowledged }) => sum + acknowledged, 0)} acknowledged crashes; recovery is from the end of a fault to the last of them being counted`)
process.exit(status ?? 1)
