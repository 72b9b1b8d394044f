import { readFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LN_TAIL_SQL } from '../../../dashboard/detect/tail.ts'
import { startTestEngine, type TestEngine } from '../../fleet/engine.ts'

interface Reference { n: number; N: number; W_hours: number; T_hours: number; p: string }

const file = join(process.env.OVERRUN_CORPUS ?? join(import.meta.dirname, '../../../../shared/corpus'), 'detection/gamma-poisson-tail.json')
const missing = !existsSync(file)
const corpusTest = missing && process.env.CI !== 'true' ? test.skip : test

let engine: TestEngine
beforeAll(async () => { engine = await startTestEngine() })
afterAll(async () => { await engine.stop() })

corpusTest('the SQL expression gives the reference p-values to 9 digits, and ln p to 12 where p is too small for that', async () => {
  if (missing) throw new Error('the corpus is not there, and with CI=true it has to be')
  const { rows } = JSON.parse(readFileSync(file, 'utf8')) as { rows: Reference[] }
  expect(rows.length).toBeGreaterThan(250)
  const computed = await lnTails(rows.map((row) => ({ n: row.n, r: row.N + 0.5, q: row.W_hours / (row.T_hours + row.W_hours) })))
  rows.forEach((row, index) => {
    const [mantissa, exponent = '0'] = row.p.split('e')
    const expected = Math.log(Number(mantissa)) + Number(exponent) * Math.LN10
    const lnP = computed[index]!
    const name = `n=${row.n} N=${row.N} W=${row.W_hours}`
    if (Number(row.p) > 1e-250) expect(Math.abs(Math.expm1(lnP - expected)), name).toBeLessThan(5e-10)
    else expect(Math.abs(lnP / expected - 1), name).toBeLessThan(1e-12)
  })
})

test('the tail falls as more devices crash and rises with their history, on both sides of the mean', async () => {
  const counts = Array.from({ length: 60 }, (_, n) => ({ n, r: 300.5, q: 24 / 696 }))
  const byCount = await lnTails(counts)
  expect(byCount[0]! + 0).toBe(0)
  for (let n = 1; n < byCount.length; n++) expect(byCount[n]!).toBeLessThan(byCount[n - 1]!)
  const byHistory = await lnTails(Array.from({ length: 60 }, (_, step) => ({ n: 7, r: 0.5 + step * 9.25, q: 6 / 678 })))
  for (let step = 1; step < byHistory.length; step++) expect(byHistory[step]!).toBeGreaterThan(byHistory[step - 1]!)
})

async function lnTails(questions: { n: number; r: number; q: number }[]): Promise<number[]> {
  const result = await engine.clickhouse.query({
    query: `WITH ${LN_TAIL_SQL} SELECT arrayMap((n, r, q) -> ln_tail(n, r, q), {n:Array(Float64)}, {r:Array(Float64)}, {q:Array(Float64)}) AS ln_p`,
    query_params: { n: questions.map(({ n }) => n), r: questions.map(({ r }) => r), q: questions.map(({ q }) => q) },
    format: 'JSONEachRow',
  })
  const [row] = await result.json<{ ln_p: number[] }>()
  return row?.ln_p ?? []
}
