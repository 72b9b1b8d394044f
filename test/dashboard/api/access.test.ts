import { afterAll, beforeAll, expect, test } from 'vitest'
import { problemSchema } from '../../../dashboard/api/contract.ts'
import { STORY_START, crashRow, insertCrashes } from '../crash-row.ts'
import { until } from '../../infra/clickhouse-fixture.ts'
import { startTestDashboard, TOKEN, type TestDashboard } from './dashboard-fixture.ts'

let world: TestDashboard
beforeAll(async () => { world = await startTestDashboard({ now: STORY_START + 3_600_000, settings: { failedLogins: 3, streams: 2 } }) })
afterAll(() => world.stop())

const login = (token: string, headers: Record<string, string> = {}) =>
  world.raw('/api/v1/login', { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify({ token }) })
const cookieOf = (response: Response): string => response.headers.get('set-cookie')?.split(';')[0] ?? ''

test('without the token nothing of a device is served, only the pages and /livez', async () => {
  const description = await world.get<{ paths: Record<string, Record<string, unknown>> }>('/api/v1/openapi.json')
  let asked = 0
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const method of Object.keys(methods)) {
      if (path === '/api/v1/login') continue
      const response = await world.raw(path.replace(/\{\w+\}/g, '0'), { method: method.toUpperCase() })
      const problem = problemSchema.parse(await response.json())
      expect([path, response.status, problem.type, response.headers.get('content-type')]).toEqual([path, 401, 'not-authenticated', expect.stringContaining('application/problem+json')])
      expect(problem.request_id).toBe(response.headers.get('x-request-id'))
      asked++
    }
  }
  expect(asked).toBeGreaterThan(20)
  for (const path of ['/docs', '/docs/json', '/api/v1/openapi.json', '/docs/static/swagger-ui.css']) expect([path, (await world.raw(path)).status]).toEqual([path, 401])
  expect((await world.raw('/livez')).status).toBe(200)
  expect(await (await world.raw('/buckets/anything')).text()).toContain('<title>Overrun</title>')
})

test('near misses of the token are refused', async () => {
  for (const token of ['', TOKEN.slice(0, -1), `${TOKEN}x`, TOKEN.toUpperCase()]) {
    expect((await world.raw('/api/v1/whoami', { headers: { authorization: `Bearer ${token}` } })).status).toBe(401)
  }
  expect((await world.raw('/api/v1/whoami', { headers: { authorization: `Basic ${TOKEN}` } })).status).toBe(401)
})

test('a sign-in gives a cookie that no script reads and no other site sends', async () => {
  const response = await login(TOKEN, { origin: world.base })
  expect(response.status).toBe(204)
  expect(response.headers.get('set-cookie')).toMatch(/; Path=\/; HttpOnly; SameSite=Strict$/)
  const cookie = cookieOf(response)
  expect(await (await world.raw('/api/v1/whoami', { headers: { cookie } })).json()).toMatchObject({ auth: 'session' })
  const [name, value = ''] = cookie.split('=')
  const [until, mac] = decodeURIComponent(value).split('.')
  for (const forged of [`${Number(until) + 1}.${mac}`, `${until}.${'0'.repeat(64)}`, `${until}.`, 'x', `1.${mac}`]) {
    expect((await world.raw('/api/v1/whoami', { headers: { cookie: `${name}=${forged}` } })).status).toBe(401)
  }
  expect((await world.raw('/api/v1/logout', { method: 'POST', headers: { cookie, origin: world.base } })).headers.get('set-cookie')).toContain('Expires=Thu, 01 Jan 1970')
})

test('a write with the cookie must come from our own pages', async () => {
  const cookie = cookieOf(await login(TOKEN))
  const write = (headers: Record<string, string>) => world.raw('/api/v1/fleets/demo/settings', { method: 'POST', headers: { cookie, 'content-type': 'application/json', ...headers }, body: '{}' })
  for (const headers of [{}, { origin: 'https://evil.example' }, { origin: 'null' }, { origin: world.base, 'sec-fetch-site': 'cross-site' }] as Record<string, string>[]) {
    const response = await write(headers)
    expect([response.status, problemSchema.parse(await response.json()).type]).toEqual([403, 'cross-site'])
  }
  expect((await write({ origin: world.base, 'sec-fetch-site': 'same-origin' })).status).toBe(200)
  expect((await login(TOKEN, { origin: 'https://evil.example' })).status).toBe(403)
})

test('guessing ends soon, and the token itself still works as a bearer', async () => {
  const statuses: number[] = []
  for (let i = 0; i < 5; i++) statuses.push((await login(`guess-${i}`)).status)
  expect(statuses).toEqual([401, 401, 401, 429, 429])
  expect((await login(TOKEN)).status).toBe(429)
  expect((await world.raw('/api/v1/whoami', { headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(200)
})

test('pages run no inline script, assets never change, and no path leaves the folder', async () => {
  const page = await world.raw('/')
  const policy = page.headers.get('content-security-policy') ?? ''
  expect(policy).toContain("default-src 'self'")
  expect(policy).not.toMatch(/unsafe|https?:|\*/)
  expect([page.headers.get('cache-control'), page.headers.get('x-content-type-options'), page.headers.get('x-frame-options')]).toEqual(['no-cache', 'nosniff', 'SAMEORIGIN'])
  const asset = await world.raw('/assets/app-1a2b3c.js')
  expect([asset.status, asset.headers.get('cache-control'), asset.headers.get('content-type')]).toEqual([200, 'public, max-age=31536000, immutable', expect.stringContaining('javascript')])
  expect((await world.raw('/assets/app-old.js')).status).toBe(404)
  for (const path of ['/..%2f..%2fetc%2fpasswd', '/%2e%2e/%2e%2e/etc/passwd', '/assets/..%2f..%2fblobs']) expect(await (await world.raw(path)).text()).not.toContain('root:')
})

test('what is not understood is refused as a problem', async () => {
  const authorization = `Bearer ${TOKEN}`
  const type = async (path: string, init: RequestInit = {}) => {
    const response = await world.raw(path, { ...init, headers: { authorization, ...init.headers } })
    return [response.status, problemSchema.parse(await response.json()).type]
  }
  expect(await type('/api/v1/nothing')).toEqual([404, 'not-found'])
  expect(await type('/api/v1/buckets?sort=title')).toEqual([400, 'invalid-request'])
  expect(await type('/api/v1/buckets?limit=100000')).toEqual([400, 'invalid-request'])
  expect(await type('/api/v1/buckets?from=yesterday')).toEqual([400, 'invalid-request'])
  expect(await type('/api/v1/crashes/..%2f..%2fx')).toEqual([400, 'invalid-request'])
  expect(await type('/api/v1/fleets/demo/settings', { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } })).toEqual([400, 'invalid-request'])
  expect(await type('/api/v1/fleets/demo/settings', { method: 'POST', body: JSON.stringify({ net_facing: ['x'.repeat(200_000)] }), headers: { 'content-type': 'application/json' } })).toEqual([413, 'too-large'])
})

test('an open page is told of a new bucket, may come back where it was, and too many pages are refused', async () => {
  const open = async (headers: Record<string, string> = {}) => {
    const gone = new AbortController()
    const response = await world.raw('/api/v1/stream', { headers: { authorization: `Bearer ${TOKEN}`, ...headers }, signal: gone.signal })
    const seen = { text: '', status: response.status, close: () => gone.abort() }
    void (async () => {
      const decoder = new TextDecoder()
      for await (const chunk of response.body ?? []) seen.text += decoder.decode(chunk as Uint8Array, { stream: true })
    })().catch(() => {})
    return seen
  }
  const first = await open()
  expect(first.status).toBe(200)
  let n = 0
  await until(async () => {
    await insertCrashes(world.world.clickhouse, [crashRow({ id: String(n).padStart(32, '0'), bucket: '00000000000000ee', at: STORY_START + n++ * 1000 })])
    return first.text.includes('"id":"00000000000000ee"')
  }, 'a hint of the new bucket')
  expect(first.text).toMatch(/^retry: \d+\n\n/)
  const lastSeen = /id: (\d+)\nevent: bucket/.exec(first.text)?.[1] ?? ''
  const again = await open({ 'last-event-id': String(Number(lastSeen) - 1) })
  await until(() => again.text.includes(`id: ${lastSeen}\n`), 'the missed hint')
  expect((await open()).status).toBe(503)
  again.close()
  const stranger = await (async () => {
    let page = await open({ 'last-event-id': '12' })
    await until(async () => { if (page.status !== 200) page = await open({ 'last-event-id': '12' }); return page.status === 200 }, 'a free place')
    return page
  })()
  await until(() => stranger.text.includes('"id":"*"'), 'a hint to ask for everything')
  stranger.close()
  first.close()
})

test('while ClickHouse is away the answer is 503, and then all is well again', async () => {
  world.world.engine.kill()
  const statuses = new Set<number>()
  await until(async () => {
    const response = await world.raw('/api/v1/overview', { headers: { authorization: `Bearer ${TOKEN}` } })
    statuses.add(response.status)
    return statuses.has(503) && response.status === 200
  }, 'a 503 and then an answer')
  expect([...statuses].sort()).toEqual([200, 503])
})
