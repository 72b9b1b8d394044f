import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readFileSync } from 'node:fs'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { createFleet } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { ASAN } from './world.ts'

/** The commands as a person runs them: a process, its output, its exit code. */
const corpus = join(import.meta.dirname, '../corpus')
const directory = mkdtempSync(join(tmpdir(), 'overrun-explain-'))
afterAll(() => rmSync(directory, { recursive: true }))

const file = (name: string, content: Uint8Array | string) => {
  const path = join(directory, name)
  writeFileSync(path, content)
  return path
}
const overrun = (...args: string[]) => run(join(import.meta.dirname, 'commands.ts'), args)
const run = (program: string, args: string[]) => new Promise<{ code: number; out: string; err: string }>((resolve) => {
  execFile(process.execPath, [program, ...args], { env: {}, maxBuffer: 2 ** 26 }, (error, out, err) => resolve({ code: Number(error?.code ?? 0), out, err }))
})

test('one dump is explained from bytes to bucket', async () => {
  const { code, out } = await overrun('explain', join(corpus, 'crashpad-x64/sensord.null-write.dmp'), '--symbols', join(corpus, 'symbols'))
  expect(code).toBe(0)
  expect(out).toMatch(/Evidence E\d/)
  expect(out).toMatch(/0 +context/)
  expect(out).toMatch(/Bucket [0-9a-f]{16}/)
})

test('--json is rust-minidump\'s report with ours beside it', async () => {
  const { code, out } = await overrun('explain', join(corpus, 'crashpad-x64/sensord.null-write.dmp'), '--symbols', join(corpus, 'symbols'), '--json')
  expect(code).toBe(0)
  expect(JSON.parse(out)).toMatchObject({
    status: 'OK', crash_info: { type: expect.stringContaining('SIGSEGV'), crashing_thread: expect.any(Number) }, crashing_thread: { frames: expect.any(Array) }, threads: expect.any(Array), modules: expect.any(Array),
    analysis: { status: 'ok', kind: expect.any(String), evidence: { class: expect.any(Number) }, signature: { bucket: expect.stringMatching(/^[0-9a-f]{16}$/), notes: expect.any(Array) } },
  })
})

test('--schema prints the JSON Schema of --json, and needs no dump', async () => {
  const { code, out } = await overrun('explain', '--schema')
  expect(code).toBe(0)
  expect(JSON.parse(out)).toMatchObject({ $schema: expect.stringContaining('json-schema.org'), properties: { crash_info: { type: 'object' }, analysis: { type: 'object' } } })
})

test('what can\'t be read is explained too, with exit code 21', async () => {
  expect(await overrun('explain', file('empty', ''))).toMatchObject({ code: 21, out: expect.stringContaining('dump-empty') })
  const cut = await overrun('explain', file('cut.dmp', readFileSync(join(corpus, 'crashpad-x64/sensord.abort.dmp')).subarray(0, 500)), '--json')
  expect(cut.code).toBe(21)
  expect(JSON.parse(cut.out)).toMatchObject({ analysis: { status: 'dump-truncated' } })
  expect(await overrun('explain', join(directory, 'nowhere'))).toMatchObject({ code: 21, out: '', err: expect.stringContaining('ENOENT') })
})

test('a signed report is opened, and its claims are used', async () => {
  const [device] = createFleet({ devices: 1, now: Date.now() }).devices
  if (device === undefined) throw new Error('no device')
  const { body } = signReport({ dump: Buffer.from(ASAN), contentType: 'text/plain', claims: { bootcount: 4, seq: 2, swname: 'httpd' }, key: device.key, chain: device.chain })
  expect(await overrun('explain', file('report.cbor', body))).toMatchObject({ code: 0, out: expect.stringMatching(/Manifest \(ES256[^]*swname: "httpd"[^]*parse_header/) })
})

test('the one door knows these commands', async () => {
  expect(await run(join(import.meta.dirname, '../../overrun.ts'), ['explain', file('empty', '')])).toMatchObject({ code: 21, out: expect.stringContaining('dump-empty') })
})

test('usage errors have exit code 2', async () => {
  expect((await overrun('explain')).code).toBe(2)
  expect((await overrun('explain', 'x', '--content-type', 'image/png')).code).toBe(2)
})

const sensord = join(corpus, 'symbols/sensord/01C5BFC8E88AB5C748E77AB3FB13230A0/sensord.sym')

test('symbols check says which build a file is for, and exits with 21 where it is of no use', async () => {
  expect(await overrun('symbols', 'check', sensord)).toMatchObject({ code: 0, out: expect.stringMatching(/debug id: 01C5BFC8E88AB5C748E77AB3FB13230A0[^]*usable: yes/) })
  const both = await overrun('symbols', 'check', '--json', sensord, file('noise.sym', 'noise'))
  expect(both.code).toBe(21)
  expect(both.out.trim().split('\n').map((line) => (JSON.parse(line) as { usable: boolean }).usable)).toEqual([true, false])
})

test('symbols upload posts each file with the token and says what the server said', async () => {
  const seen: { url: string; authorization: string | undefined; bytes: number }[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const bytes = Buffer.concat(chunks)
    seen.push({ url: request.url ?? '', authorization: request.headers.authorization, bytes: bytes.length })
    const refused = bytes.toString().startsWith('noise')
    response.writeHead(refused ? 422 : 200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(refused ? { title: 'The symbol file can not be used', hint: 'Check it' } : { key: 'k', debug_id: 'D', debug_file: 'sensord', reprocessing: true }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  expect(await overrun('symbols', 'upload', sensord, '--url', url, '--token', 'secret')).toMatchObject({ code: 0, out: expect.stringContaining('reprocessed') })
  expect(seen).toEqual([{ url: '/api/v1/symbols?name=sensord.sym', authorization: 'Bearer secret', bytes: readFileSync(sensord).length }])
  const noise = file('noise.sym', 'noise')
  expect(await overrun('symbols', 'upload', noise, '--url', url, '--token', 'secret')).toMatchObject({ code: 21, err: expect.stringContaining('can not be used') })
  expect((await overrun('symbols', 'upload', noise, sensord, '--url', url, '--token', 'secret')).code).toBe(60)
  writeFileSync(join(directory, 'server.json'), JSON.stringify({ ingest_url: url, dashboard_url: url, token: 'of-data', pid: 1 }))
  expect((await overrun('symbols', 'upload', sensord, '--data', directory, '--json')).out).toContain('"debug_id":"D"')
  expect(seen.at(-1)?.authorization).toBe('Bearer of-data')
  expect((await overrun('symbols', 'upload', sensord, '--data', join(directory, 'nobody'))).code).toBe(20)
  expect((await overrun('symbols', 'upload', sensord, '--url', url, '--data', join(directory, 'nobody'))).code).toBe(10)
  expect((await overrun('symbols', 'upload', sensord, '--url', 'http://127.0.0.1:1', '--token', 'x')).code).toBe(32)
})
