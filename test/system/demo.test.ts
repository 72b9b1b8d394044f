import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { BrowserContext, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AlertsPage, BucketsPage, CrashesPage, MissingSymbols } from '../../dashboard/api/contract.ts'
import { createFleet } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { needsChromium, openBrowser } from './chromium.ts'

/** The demo as a user runs it, what it claims, and its pages in a real browser. */
const ROOT = join(import.meta.dirname, '..', '..')
const SCREENS = join(ROOT, '.cache', 'screens')
const HOSTILE = '<img src=x onerror="document.title=1">{{7*7}}'

let demo: ChildProcess
let folder: string
let ready: { ingest_url: string; dashboard_url: string; token: string; crashes: number; alerts: { pattern: string; title: string; id: string }[] }

const overrun = (...args: string[]) => spawnSync(process.execPath, ['overrun.ts', ...args], { cwd: ROOT, encoding: 'utf8' })
async function api<T>(path: string): Promise<T> {
  const response = await fetch(new URL(`/api/v1${path}`, ready.dashboard_url), { headers: { authorization: `Bearer ${ready.token}` } })
  expect(response.status, path).toBe(200)
  return (await response.json()) as T
}
async function until<T>(ask: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await ask()
    if (good(value)) return value
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

beforeAll(async () => {
  mkdirSync(SCREENS, { recursive: true })
  folder = mkdtempSync(join(tmpdir(), 'overrun-demo-test-'))
  demo = spawn(process.execPath, ['overrun.ts', 'demo', '--data', join(folder, 'data'), '--ingest-port', '0', '--dashboard-port', '0', '--json'], { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await Promise.race([once(createInterface({ input: demo.stdout! }), 'line'), once(demo, 'exit').then(([code]) => { throw new Error(`the demo ended with ${code}`) })])) as [string]
  ready = JSON.parse(line) as typeof ready
}, 600_000)

afterAll(async () => {
  if (demo.exitCode === null) {
    demo.kill('SIGTERM')
    await once(demo, 'exit')
  }
  rmSync(folder, { recursive: true, force: true })
}, 30_000)

test('the demo finds the sweep and the spread, and nothing else is a security alert', async () => {
  const { items } = await api<AlertsPage>('/alerts?limit=200')
  const security = items.filter(({ severity }) => severity === 'high' || severity === 'critical' || severity === 'medium')
  expect([...new Set(security.map(({ pattern }) => pattern))].sort()).toEqual(expect.arrayContaining(['PRB-SPREAD', 'PRB-SWEEP']))
  expect(security.find(({ pattern }) => pattern === 'PRB-SPREAD')?.title).toContain('mqtt')
  for (const alert of security) expect(alert.title).not.toMatch(/null-dereference/)
})

test('every crash of the story is counted exactly once', async () => {
  const { items } = await api<BucketsPage>('/buckets?limit=200&from=2020-01-01T00:00:00Z')
  expect(items.reduce((sum, { crashes }) => sum + crashes, 0)).toBe(ready.crashes)
})

test('stacks are symbolicated: the overrun is in parse_mqtt', async () => {
  const { items } = await api<BucketsPage>('/buckets?q=parse_mqtt')
  expect(items[0]?.title).toMatch(/^stack-guard in parse_mqtt \(sensord\.c:7\)$/)
})

test('a first crash goes from fleet init to a bucket by the commands that are printed', async () => {
  const home = join(folder, 'fleet')
  expect(overrun('fleet', 'init', home, '--fleet', 'mine').status).toBe(0)
  const added = overrun('fleet', 'add-anchor', join(home, 'ca.pem'), '--data', join(folder, 'data'), '--json')
  expect(added.status, added.stderr).toBe(0)
  const sent = await until(async () => overrun('send', 'test/corpus/crashpad-x64/sensord.heap-overflow.dmp', '--device', join(home, 'devices', 'mine-0001'), '--url', ready.ingest_url, '--compartment', 'recorder', '--json'), ({ status }) => status === 0)
  const { id } = JSON.parse(sent.stdout) as { id: string }
  const { items } = await until(() => api<BucketsPage>('/buckets?limit=200&sort=last_seen'), ({ items: found }) => found.some(({ compartments }) => compartments.includes('recorder')))
  const bucket = items.find(({ compartments }) => compartments.includes('recorder'))!
  const crashes = await api<CrashesPage>(`/buckets/${bucket.bucket}/crashes`)
  expect(crashes.items.map((crash) => crash.id)).toContain(id)
}, 120_000)

test('symbols that were missing end the wait of the crashes that need them', async () => {
  const names = ({ items }: MissingSymbols) => items.map(({ debug_file: file }) => file)
  expect(names(await api<MissingSymbols>('/symbols/missing'))).toContain('bpdaemon')
  const uploaded = overrun('symbols', 'upload', 'test/corpus/symbols/bpdaemon', '--data', join(folder, 'data'))
  expect(uploaded.status, uploaded.stderr).toBe(0)
  await until(() => api<MissingSymbols>('/symbols/missing'), (missing) => !names(missing).includes('bpdaemon'))
}, 120_000)

describe.skipIf(needsChromium.skip)(`the pages in a real browser${needsChromium.note}`, () => {
  let browser: { context: BrowserContext; close(): Promise<void> }
  let page: Page
  const complaints: string[] = []

  beforeAll(async () => {
    // A device whose strings try to be markup.
    const fleet = createFleet({ devices: 1, name: 'hostile', now: Date.now() })
    const pem = join(folder, 'hostile.pem')
    writeFileSync(pem, fleet.ca.pem)
    expect(overrun('fleet', 'add-anchor', pem, '--data', join(folder, 'data')).status).toBe(0)
    const text = Buffer.from(`==1==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602000000010 at pc 0x1 bp 0x2 sp 0x3\nWRITE of size 8 at 0x602000000010 thread T0\n    #0 0x1 in ${HOSTILE} /src/a.c:1:1\n`)
    const [device] = fleet.devices
    const { body } = signReport({ dump: text, contentType: 'text/plain', claims: { bootcount: 1, seq: 0, compartment: HOSTILE, swversion: HOSTILE }, key: device!.key, chain: device!.chain })
    await until(() => fetch(`${ready.ingest_url}/v1/crashes`, { method: 'POST', headers: { 'content-type': 'application/cbor-seq' }, body: Buffer.from(body) }).then(({ status }) => status), (status) => status === 202 || status === 200)
    await until(() => api<BucketsPage>('/buckets?limit=200&sort=last_seen'), ({ items }) => items.some(({ compartments }) => compartments.includes(HOSTILE)))

    browser = await openBrowser()
    page = await browser.context.newPage()
    page.on('console', (message) => { if (message.type() === 'error' && !expected(message.text())) complaints.push(message.text()) })
    page.on('pageerror', (error) => complaints.push(String(error)))
  }, 120_000)
  afterAll(() => browser?.close())

  /** The refused sign-in; and Swagger UI's one inline style, which the policy rightly blocks. */
  const expected = (text: string) => text.includes('401') || (page.url().includes('/docs') && text.startsWith('Applying inline style'))
  const screen = (name: string) => page.screenshot({ path: join(SCREENS, `${name}.png`), fullPage: true })

  test('nothing is shown without the token, and a wrong one is refused', async () => {
    await page.goto(ready.dashboard_url)
    await page.getByLabel('Token').fill('not-the-token')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('alert').waitFor()
    expect(await page.getByText('crashes', { exact: true }).count()).toBe(0)
    await page.getByLabel('Token').fill(ready.token)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('heading', { name: 'Overview' }).waitFor()
    await page.getByText('Live', { exact: false }).first().waitFor()
    await screen('overview')
  })

  test('a campaign shows its chance, its evidence, its counter-evidence and its query', async () => {
    await page.getByRole('link', { name: /^Campaigns/ }).click()
    await page.getByRole('heading', { name: 'Campaigns' }).waitFor()
    await screen('campaigns')
    await page.goto(`${ready.dashboard_url}/campaigns/${ready.alerts.find(({ pattern }) => pattern === 'PRB-SPREAD')!.id}`)
    for (const heading of ['Distinct devices over time', 'Speaks for an attack', 'Why it may not be one', 'Do now', 'The query that fired']) await page.getByRole('heading', { name: heading }).waitFor()
    await page.getByText(/1 in /).first().waitFor()
    expect(await page.locator('.chart canvas').count()).toBe(1)
    await screen('campaign')
    await page.getByRole('button', { name: 'Attack', exact: true }).click()
    await page.getByText('verdict: attack').waitFor()
  })

  test('a bucket shows its stack with trust, its registers, modules, devices, firmware and why it is one bucket', async () => {
    const [bucket] = (await api<BucketsPage>('/buckets?q=parse_mqtt')).items
    await page.goto(`${ready.dashboard_url}/buckets/${bucket!.bucket}`)
    await page.locator('.frame .fn', { hasText: /^parse_mqtt$/ }).first().waitFor()
    await page.getByText('cfi', { exact: true }).first().waitFor()
    await screen('bucket')
    await page.getByRole('tab', { name: 'Threads and registers' }).click()
    await page.locator('.registers', { hasText: 'rip' }).waitFor()
    for (const [tab, text] of [['Modules', 'libc.so.6'], ['Devices', 'demo-'], ['Firmware', '4.1.0'], ['Over-represented', 'mqtt'], ['Why one bucket', 'stack-guard']] as const) {
      await page.getByRole('tab', { name: tab }).click()
      await page.locator('.panel', { hasText: text }).last().waitFor()
    }
    await screen('bucket-why')
  })

  test('devices, one device, symbols and settings have their pages', async () => {
    for (const [name, heading] of [['Devices', 'Devices'], ['Symbols', 'Symbols'], ['Settings', 'Settings']] as const) {
      await page.getByRole('link', { name, exact: true }).click()
      await page.getByRole('heading', { name: heading, exact: true }).waitFor()
      await page.locator('.panel').first().waitFor()
      await screen(name.toLowerCase())
    }
    await page.getByRole('link', { name: 'Devices', exact: true }).click()
    await page.locator('td a').first().click()
    await page.getByRole('heading', { name: 'Timeline' }).waitFor()
    await screen('device')
  })

  test('the API describes itself on a page of its own', async () => {
    await page.goto(`${ready.dashboard_url}/docs`)
    await page.getByText('/api/v1/buckets', { exact: true }).first().waitFor()
    await screen('docs')
  })

  test('what a crash says is text, never markup', async () => {
    const bucket = (await api<BucketsPage>('/buckets?limit=200&sort=last_seen')).items.find(({ compartments }) => compartments.includes(HOSTILE))!
    await page.goto(`${ready.dashboard_url}/buckets/${bucket.bucket}`)
    await page.getByText(HOSTILE).first().waitFor()
    expect(await page.locator('img[src="x"]').count()).toBe(0)
    expect(await page.title()).toBe('Overrun')
    await screen('hostile')
  })

  test('every page keeps the content security policy and logs no error', () => {
    expect(complaints).toEqual([])
  })
})
