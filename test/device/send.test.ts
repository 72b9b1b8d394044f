import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { takeCounter } from '../../ingest/device/counter.ts'
import { decodeManifest, scanManifest, type Manifest } from '../../ingest/manifest.ts'

const cli = fileURLToPath(new URL('device-cli.ts', import.meta.url))
const shell = fileURLToPath(new URL('../../ingest/device/overrun-send.sh', import.meta.url))
const dir = mkdtempSync(join(tmpdir(), 'overrun-send-'))
const dump = join(dir, 'dump')
const device = (n: number): string => join(dir, 'fleet', 'devices', `demo-000${n}`)

beforeAll(() => {
  writeFileSync(dump, 'MDMP of a test')
  execFileSync(process.execPath, [cli, 'fleet', 'init', join(dir, 'fleet'), '--devices', '6'], { stdio: 'pipe' })
})
afterAll(() => rmSync(dir, { recursive: true }))

type Run = { code: number; stdout: string; stderr: string }
const run = (file: string, args: string[]): Promise<Run> => new Promise((resolve) => {
  execFile(file, args, (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, stdout, stderr }))
})
const overrun = (...args: string[]): Promise<Run> => run(process.execPath, [cli, ...args])

/** A server that answers what it is told, in order, and keeps what it was sent. */
async function serve(...answers: { status: number; body?: object; headers?: Record<string, string> }[]): Promise<{ url: string; got: Buffer[]; types: string[] }> {
  const got: Buffer[] = []
  const types: string[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { status, body = {}, headers = {} } = answers[Math.min(got.length, answers.length - 1)]!
    got.push(Buffer.concat(chunks))
    types.push(`${request.method} ${request.url} ${request.headers['content-type']}`)
    response.writeHead(status, headers).end(JSON.stringify(body))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  servers.push(server)
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, got, types }
}
const servers: Server[] = []
afterEach(() => { for (const server of servers.splice(0)) server.close() })

function manifestOf(body: Buffer): Manifest {
  const scan = scanManifest(body)
  const manifest = decodeManifest(body.subarray(0, 'end' in scan ? scan.end : 0))
  if ('slug' in manifest) throw new Error(manifest.detail)
  return manifest
}
const counters = (bodies: Buffer[]): string[] => bodies.map((body) => `${manifestOf(body).claims.bootcount}/${manifestOf(body).claims.seq}`)
const accepted = { status: 202, body: { id: 'ab'.repeat(16), status: 'queued', auth_level: 'payload-signed' } }

describe('overrun send', () => {
  test('posts a signed report and prints the id', async () => {
    const { url, got, types } = await serve(accepted)
    const sent = await overrun('send', dump, '--device', device(1), '--url', url, '--swversion', '4.2.1', '--compartment', 'httpd', '--peer', '2001:db8::7', '--build-id', 'abcd', '--layer', 'app')
    expect(sent).toMatchObject({ code: 0, stdout: `${'ab'.repeat(16)}\n` })
    expect(types).toEqual(['POST /v1/crashes application/cbor-seq'])
    expect(manifestOf(got[0]!)).toMatchObject({ contentType: 'application/x-minidump', claims: { bootcount: 1, seq: 0, swversion: '4.2.1', compartment: 'httpd', peer: '2001:db8::7', buildId: 'abcd', layer: 'app' } })
    expect(got[0]!.subarray(-14).toString()).toBe('MDMP of a test')
  })

  test('never uses a counter twice, whichever signer ran before', async () => {
    const { url, got } = await serve(accepted)
    await overrun('send', dump, '--device', device(2), '--url', url)
    expect((await run('sh', [shell, '-k', join(device(2), 'key.pem'), '-c', join(device(2), 'chain.pem'), '-u', url, dump])).code).toBe(0)
    await overrun('send', dump, '--device', device(2), '--url', url)
    await overrun('send', dump, '--device', device(2), '--url', url, '--bootcount', '5')
    expect(counters(got)).toEqual(['1/0', '1/1', '1/2', '5/0'])
    expect(await overrun('send', dump, '--device', device(2), '--url', url, '--bootcount', '1', '--seq', '2')).toMatchObject({ code: 21 })
    expect((await run('sh', [shell, '-k', join(device(2), 'key.pem'), '-c', join(device(2), 'chain.pem'), '-u', url, '-b', '5', '-s', '0', dump])).code).toBe(21)
    expect(got).toHaveLength(4)
    expect(await overrun('send', dump, '--device', device(2), '--url', url, '--bootcount', '1', '--seq', '2', '--repeat')).toMatchObject({ code: 0 })
  })

  test('sends the same bytes again after 429, 503 and 408', async () => {
    const { url, got } = await serve({ status: 429, headers: { 'retry-after': '0' } }, { status: 503 }, accepted)
    expect(await overrun('send', dump, '--device', device(3), '--url', url)).toMatchObject({ code: 0 })
    expect(got).toHaveLength(3)
    expect(got[1]!.equals(got[0]!) && got[2]!.equals(got[0]!)).toBe(true)
  })

  test.each([[401, 12], [403, 12], [400, 30], [409, 30], [413, 30]])('gives up at once on %i with exit code %i', async (status, code) => {
    const { url, got } = await serve({ status, body: { title: 'refused here', detail: 'because' } })
    const sent = await overrun('send', dump, '--device', device(4), '--url', url)
    expect(sent).toMatchObject({ code, stdout: '' })
    expect(sent.stderr).toContain('refused here')
    expect(got).toHaveLength(1)
  })

  test('tells a network error and a missing file apart', async () => {
    const { url } = await serve(accepted)
    servers[0]!.close()
    expect(await overrun('send', dump, '--device', device(5), '--url', url, '--retries', '0')).toMatchObject({ code: 32 })
    expect(await overrun('send', join(dir, 'no-dump'), '--device', device(5), '--url', url)).toMatchObject({ code: 23 })
    expect(await overrun('send', dump, '--url', url)).toMatchObject({ code: 2 })
    expect(await overrun('send', dump, '--cert', dump, '--key', dump, '--url', url)).toMatchObject({ code: 20 })
    expect(await overrun('send', dump, '--device', device(5), '--url', url, '--swname', 'x'.repeat(300))).toMatchObject({ code: 21 })
  })

  test('prints the whole answer as JSON', async () => {
    const { url } = await serve({ status: 200, body: { id: 'cd'.repeat(16), status: 'duplicate' } })
    const { stdout } = await overrun('send', dump, '--device', device(6), '--url', url, '--json')
    expect(JSON.parse(stdout)).toEqual({ http: 200, id: 'cd'.repeat(16), status: 'duplicate' })
  })
})

describe('the shell signer', () => {
  test('prints the answer, and its exit codes are those of overrun send', async () => {
    const args = (url: string): string[] => [shell, '-k', join(device(6), 'key.pem'), '-c', join(device(6), 'chain.pem'), '-u', url, dump]
    expect(await run('sh', args((await serve(accepted)).url))).toMatchObject({ code: 0, stdout: `${JSON.stringify(accepted.body)}\n` })
    expect(await run('sh', args((await serve({ status: 401 })).url))).toMatchObject({ code: 12 })
    expect(await run('sh', args((await serve({ status: 400 })).url))).toMatchObject({ code: 30 })
    expect(await run('sh', [shell, dump])).toMatchObject({ code: 2 })
  })
})

describe('the counter', () => {
  test('gives each of many senders at once its own pair', async () => {
    const file = join(dir, 'shared.counter')
    const taken = await Promise.all(Array.from({ length: 20 }, () => takeCounter(file, {})))
    expect(new Set(taken.map((counter) => counter?.seq)).size).toBe(20)
  })

  test('is not guessed when its file is damaged', async () => {
    const file = join(dir, 'damaged.counter')
    writeFileSync(file, 'seven')
    await expect(takeCounter(file, {})).rejects.toThrow('holds no counter')
  })
})

describe('overrun fleet init', () => {
  test('makes keys that only their owner reads, and certificates that openssl verifies', () => {
    const fleet = join(dir, 'fleet')
    expect(statSync(join(fleet, 'ca.key.pem')).mode & 0o777).toBe(0o600)
    expect(statSync(join(device(1), 'key.pem')).mode & 0o777).toBe(0o600)
    const verified = execFileSync('openssl', ['verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', join(fleet, 'ca.pem'), '-untrusted', join(fleet, 'intermediate.pem'), join(device(1), 'cert.pem')])
    expect(verified.toString()).toContain('OK')
    expect(readFileSync(join(device(1), 'chain.pem'), 'utf8').match(/BEGIN CERTIFICATE/g)).toHaveLength(2)
  })

  test('never overwrites a fleet', async () => {
    const before = readFileSync(join(dir, 'fleet', 'ca.pem'), 'utf8')
    expect(await overrun('fleet', 'init', join(dir, 'fleet'))).toMatchObject({ code: 20 })
    expect(readFileSync(join(dir, 'fleet', 'ca.pem'), 'utf8')).toBe(before)
  })

  test.each(['ed25519', 'p384'])('makes %s keys', async (type) => {
    const { stdout } = await overrun('fleet', 'init', join(dir, type), '--devices', '1', '--key-type', type, '--fleet', 'meters', '--json')
    expect(JSON.parse(stdout)).toEqual({ fleet: 'meters', anchor: join(dir, type, 'ca.pem'), devices: [{ serial: 'meters-0001', dir: join(dir, type, 'devices', 'meters-0001') }] })
  })
})
