import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { startOverrun, type OverrunProcess } from './overrun-process.ts'

/** What operators are given names metrics; here it is held to what a running process exposes. `start` has every part in it. */
const INFRA = join(import.meta.dirname, '../../infra')
const data = mkdtempSync(join(tmpdir(), 'overrun-metrics-'))
let overrun: OverrunProcess
let help: Map<string, string>
let exposed: Set<string>

beforeAll(async () => {
  overrun = await startOverrun(['start', '--data', data, '--ingest-port', '0', '--dashboard-port', '0'], {}, { timeoutMs: 120_000 })
  const text = await (await fetch(new URL('/metrics', overrun.ready.ops_url))).text()
  help = new Map(Array.from(text.matchAll(/^# HELP (\S+) (.+)$/gm), ([, name = '', words = '']) => [name, words]))
  const histograms = Array.from(text.matchAll(/^# TYPE (\S+) histogram$/gm), ([, name = '']) => name)
  exposed = new Set([...help.keys(), ...histograms.flatMap((name) => ['bucket', 'sum', 'count'].map((suffix) => `${name}_${suffix}`))])
}, 150_000)
afterAll(async () => {
  await overrun?.kill()
  rmSync(data, { recursive: true, force: true })
})

/** Names in PromQL that are metrics: ours and the process's. */
const namesOf = (expression: string): string[] => Array.from(expression.matchAll(/\b(?:overrun|log|process|nodejs)_[a-z_]+\b/g), ([name]) => name)
const unknown = (expressions: readonly string[]) => [...new Set(expressions.flatMap(namesOf))].filter((name) => !exposed.has(name))

test('every metric of the Prometheus rules is exposed', () => {
  const { groups } = parse(readFileSync(join(INFRA, 'prometheus-rules.yml'), 'utf8')) as { groups: { rules: { alert: string; expr: string; annotations: { summary: string } }[] }[] }
  const rules = groups.flatMap((group) => group.rules)
  expect(rules.length).toBeGreaterThan(10)
  for (const { alert, expr, annotations } of rules) {
    expect(namesOf(expr), alert).not.toEqual([])
    expect(annotations.summary).toBeTruthy()
  }
  expect(unknown(rules.map(({ expr }) => expr))).toEqual([])
})

test('every metric of the Grafana dashboard is exposed', () => {
  const { panels } = JSON.parse(readFileSync(join(INFRA, 'grafana-dashboard.json'), 'utf8')) as { panels: { type: string; title: string; description?: string; targets?: { expr: string }[] }[] }
  const graphs = panels.filter(({ type }) => type !== 'row')
  expect(graphs.length).toBeGreaterThan(15)
  for (const { title, description, targets = [] } of graphs) {
    expect(description, title).toBeTruthy()
    for (const { expr } of targets) expect(namesOf(expr), title).not.toEqual([])
  }
  expect(unknown(graphs.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)))).toEqual([])
})

test("each of our metrics says in its help what it means when it moves", () => {
  const ours = [...help].filter(([name]) => name.startsWith('overrun_') || name.startsWith('log_'))
  expect(ours.length).toBeGreaterThan(35)
  expect(ours.filter(([, words]) => !/\b(rise|rising|fall|jump|flat|still|near|limit|no longer|two values)\b/i.test(words)).map(([name, words]) => `${name}: ${words}`)).toEqual([])
})

test('no label of ours names a device, a crash or a bucket', async () => {
  const text = await (await fetch(new URL('/metrics', overrun.ready.ops_url))).text()
  expect(text.match(/^overrun_.*\b(?:device|crash|bucket|fleet)="/gm)).toBeNull()
})
