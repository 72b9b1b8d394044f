import { randomBytes, randomUUID } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dial, openDoor, type Door } from './door.ts'

/** Uploads of unmodified clients, byte for byte as they shape them: headers, boundaries, order and names of parts. */
let door: Door
beforeAll(async () => { door = await openDoor() })
afterAll(() => door.close())
const newest = async () => (await door.accepted()).at(-1)!

/** Says a request as raw bytes and gives the status and the body of the answer. */
async function say(...pieces: (string | Uint8Array)[]): Promise<{ status: number; body: string }> {
  const line = dial(door.port)
  for (const piece of pieces) await line.say(piece)
  const answer = await line.answer
  return { status: Number(answer.slice(9, 12)), body: answer.slice(answer.indexOf('\r\n\r\n') + 4) }
}
const chunked = (bytes: Uint8Array, size: number): Buffer => Buffer.concat([
  ...Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size)).flatMap((chunk) => [Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]),
  Buffer.from('0\r\n\r\n'),
])

/** crashpad/util/net/http_multipart_builder.cc: form data in the order of their names, then files; http_transport_libcurl.cc for the headers. */
function crashpadForm(fields: Record<string, string>, files: Record<string, { name: string; type: string; bytes: Uint8Array }>): { boundary: string; body: Buffer } {
  const boundary = `---MultipartBoundary-${randomBytes(16).toString('hex')}---`
  const parts = [
    ...Object.entries(fields).toSorted().map(([name, value]) => Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`)),
    ...Object.entries(files).toSorted().flatMap(([field, { name, type, bytes }]) => [
      Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${field}"; filename="${name}"\r\nContent-Type: ${type}\r\n\r\n`), bytes, Buffer.from('\r\n'),
    ]),
  ]
  return { boundary, body: Buffer.concat([...parts, Buffer.from(`--${boundary}--\r\n`)]) }
}

test.each([true, false])('chrome_crashpad_handler, product and version in the address too (gzip: %s)', async (gzip) => {
  const dump = randomBytes(40_000)
  const { boundary, body } = crashpadForm(
    { prod: 'Chrome_Linux', ver: '131.0.6778.85', ptype: 'gpu-process', guid: randomUUID(), plat: 'Linux', channel: 'beta', 'list_annotation': 'a,b', 'switch-1': '--type=gpu-process' },
    { upload_file_minidump: { name: `${randomUUID()}.dmp`, type: 'application/octet-stream', bytes: dump } },
  )
  const sent = gzip ? gzipSync(body) : body
  const { status, body: id } = await say(
    'POST /submit?key=thermostats-key&product=Chrome_Linux&version=131.0.6778.85&guid=8f3c HTTP/1.1\r\nHost: door\r\nUser-Agent: Crashpad/0.8.0 libcurl/8.5.0\r\nAccept: */*\r\nConnection: close\r\n'
    + `Content-Type: multipart/form-data; boundary=${boundary}\r\n${gzip ? 'Content-Encoding: gzip\r\n' : ''}Transfer-Encoding: chunked\r\n\r\n`,
    chunked(sent, 4096),
  )
  const crash = await newest()
  expect([status, id.includes(crash.id)]).toEqual([200, true])
  expect(crash).toMatchObject({
    authLevel: 'project-key', size: dump.length, annotations: { prod: 'Chrome_Linux', ver: '131.0.6778.85', ptype: 'gpu-process', channel: 'beta', 'switch-1': '--type=gpu-process', product: 'Chrome_Linux' },
    claims: { swname: 'Chrome_Linux', swversion: '131.0.6778.85', process: 'gpu-process' },
  })
  expect(crash.annotations.guid).toMatch(/^[0-9a-f-]{36}$/)
})

test('Crashpad with attachments, which come before the dump by their names', async () => {
  const dump = randomBytes(5_000)
  const { boundary, body } = crashpadForm({ version: '2.0' }, {
    '__sentry-event': { name: '__sentry-event', type: 'application/octet-stream', bytes: randomBytes(3_000) },
    attachment_app_log: { name: 'app.log', type: 'application/octet-stream', bytes: randomBytes(2_000_000) },
    upload_file_minidump: { name: 'm.dmp', type: 'application/octet-stream', bytes: dump },
    view_hierarchy: { name: 'v.json', type: 'application/octet-stream', bytes: randomBytes(1_000) },
  })
  const { status } = await say(
    `POST /submit?key=thermostats-key HTTP/1.1\r\nHost: door\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=${boundary}\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n`,
    chunked(gzipSync(body), 16_384),
  )
  expect(status).toBe(200)
  expect(await newest()).toMatchObject({ size: dump.length, annotations: { version: '2.0' } })
})

test('Breakpad on Linux: libcurl writes the form, waits for 100 and names the file by its path', async () => {
  const dump = randomBytes(30_000)
  const boundary = `------------------------${randomBytes(8).toString('hex')}`
  const field = (name: string, value: string) => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
  const body = Buffer.concat([
    Buffer.from(`${field('prod', 'sensord')}${field('ver', '3.1')}${field('guid', randomUUID())}${field('ptime', '1200')}`
      + `--${boundary}\r\nContent-Disposition: form-data; name="upload_file_minidump"; filename="5a1e2c9e-8c1a-4d1f.dmp"\r\nContent-Type: application/octet-stream\r\n\r\n`),
    dump, Buffer.from(`\r\n--${boundary}--\r\n`),
  ])
  const line = dial(door.port)
  await line.say('POST /submit?key=thermostats-key&reply=socorro HTTP/1.1\r\nHost: door\r\nUser-Agent: Breakpad/1.0 (Linux)\r\nAccept: */*\r\nConnection: close\r\n'
    + `Content-Length: ${body.length}\r\nContent-Type: multipart/form-data; boundary=${boundary}\r\nExpect: 100-continue\r\n\r\n`)
  expect(await line.firstLine()).toBe('HTTP/1.1 100 Continue')
  await line.say(body)
  const crash = /CrashID=bp-([0-9a-f]{32})\n/.exec(await line.answer)?.[1]
  expect(await newest()).toMatchObject({ id: crash, size: dump.length, claims: { swname: 'sensord', swversion: '3.1' } })
})

test('Breakpad on Windows: WinHTTP, parameters as text, the file with its name in an extra encoding', async () => {
  const dump = randomBytes(3_000)
  const boundary = '---------------------------28A9F2F4C3D51B7E'
  const part = (name: string, value: string) => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
  const body = Buffer.concat([
    Buffer.from(`${part('ProductName', 'Wächter')}${part('Version', '7')}--${boundary}\r\nContent-Disposition: form-data; name="upload_file_minidump"; filename="Dämpfe.dmp"\r\nContent-Type: application/octet-stream\r\n\r\n`),
    dump, Buffer.from(`\r\n--${boundary}--\r\n`),
  ])
  const { status } = await say(
    `POST /submit?key=thermostats-key HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=${boundary}\r\nUser-Agent: Breakpad/1.0 (Windows)\r\nHost: door\r\nContent-Length: ${body.length}\r\nConnection: Close\r\nCache-Control: no-cache\r\n\r\n`, body,
  )
  expect(status).toBe(200)
  expect(await newest()).toMatchObject({ size: dump.length, claims: { swname: 'Wächter', swversion: '7' } })
})
