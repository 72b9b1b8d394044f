import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import type { Report } from '../../../symbolicate/contract.ts'
import { drawElf, drawSymbols, drawText } from './elf-builder.ts'

/** The commands as a person runs them. */
const corpus = join(import.meta.dirname, '../../corpus')
const directory = mkdtempSync(join(tmpdir(), 'overrun-symbols-'))
afterAll(() => rmSync(directory, { recursive: true }))

const overrun = (...args: string[]) => new Promise<{ code: number; out: string; err: string }>((resolve) => {
  execFile(process.execPath, [join(import.meta.dirname, '../commands.ts'), ...args], { env: {}, maxBuffer: 2 ** 26 }, (error, out, err) => resolve({ code: Number(error?.code ?? 0), out, err }))
})

test('a program in the folder explains a crash as its Breakpad file does, whatever it is called', async () => {
  const folder = join(directory, 'programs')
  mkdirSync(folder)
  for (const name of ['libc.so.6', 'ld-linux-x86-64.so.2']) cpSync(join(corpus, 'symbols', name), join(folder, name), { recursive: true })
  cpSync(join(corpus, 'elf/sensord'), join(folder, 'build-4711.bin'))
  const dump = join(corpus, 'crashpad-x64/sensord.stack-smash.dmp')
  const [byElf, bySym] = await Promise.all([folder, join(corpus, 'symbols')].map(async (symbols) => (JSON.parse((await overrun('explain', dump, '--symbols', symbols, '--json')).out) as Report).crashing_thread!))
  expect(byElf!.frames).toEqual(bySym!.frames)
  expect(byElf!.frames.some(({ file }) => file?.endsWith('sensord.c'))).toBe(true)
})

test('symbols check tells what an ELF file lacks and the flags that give it', async () => {
  const bare = join(directory, 'app.elf')
  writeFileSync(bare, drawElf({ bits: 32, machine: 40, loads: [{ address: 0x800_0000, size: 0x400 }], sections: [drawText(0x800_0000, 64), ...drawSymbols([{ name: 'main', value: 0x800_0001, size: 32 }], 32)] }))
  const { code, out } = await overrun('symbols', 'check', bare, join(corpus, 'elf/sensord'))
  expect(code).toBe(0)
  const [poor, rich] = out.split(/\n(?=\S)/)
  expect(poor).toMatch(/build id: -\n[^]*no build id[^]*-Wl,--build-id=sha1[^]*no lines[^]*-g[^]*usable: yes/)
  expect(rich).toMatch(/build id: c8bfc5018ae8c7b548e77ab3fb13230a083c4deb\n/)
  expect(rich).not.toContain('note:')
})

test('symbols missing ranks the builds that crashes wait for', async () => {
  const items = [
    { debug_file: 'firmware', debug_id: 'elf-sha256:1b43c5e74', code_id: '', crashes: 120, devices: 7, buckets: 2, swversions: ['1.0', '1.1'], first_seen: 'a', last_seen: 'b' },
    { debug_file: 'libnet.so', debug_id: 'D', code_id: '', crashes: 3, devices: 3, buckets: 1, swversions: [], first_seen: 'a', last_seen: 'b' },
  ]
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    response.writeHead(request.headers.authorization === 'Bearer secret' ? 200 : 401, { 'content-type': 'application/json' }).end(JSON.stringify({ items, as_of: 'c' }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const to = ['--url', `http://127.0.0.1:${(server.address() as AddressInfo).port}`, '--token', 'secret']
  const listed = await overrun('symbols', 'missing', ...to)
  expect(listed.code).toBe(0)
  expect(listed.out.split('\n').map((line) => line.trim().split(/\s{2,}/))).toEqual([
    ['crashes', 'devices', 'module', 'build', 'versions'], ['120', '7', 'firmware', 'elf-sha256:1b43c5e74', '1.0 1.1'], ['3', '3', 'libnet.so', 'D', '-'], [''],
  ])
  const json = await overrun('symbols', 'missing', '--since', '2026-11-01T00:00:00Z', '--json', ...to)
  expect(json.out.trim().split('\n').map((line) => JSON.parse(line) as unknown)).toEqual(items)
  expect(asked).toEqual(['/api/v1/symbols/missing', '/api/v1/symbols/missing?from=2026-11-01T00%3A00%3A00Z'])
  expect((await overrun('symbols', 'missing', ...to.slice(0, 2), '--token', 'wrong')).code).toBe(11)
})
