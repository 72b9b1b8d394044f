/** The small streams: drawn ones, and what rust-minidump prints of the real ones. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Report } from '../../../symbolicate/contract.ts'
import { parseMinidump } from '../../../symbolicate/formats/minidump.ts'
import { analyseNative } from '../../../symbolicate/native.ts'
import { type Drawn, drawMinidump } from '../../synth/minidump.ts'

const ONE: Drawn = { threads: [{ id: 7, registers: { rip: 0x5800n, rsp: 0x7000n } }], exception: { thread: 7, code: 11, flags: 1, address: 16n } }

test('the machine and its system are told', () => {
  const processor = { level: 6, revision: 0x3f02, count: 12 }
  expect(facts({ ...ONE, processor, cpuInfoText: 'processor\t: 0\nmicrocode\t: 0x2b\nprocessor\t: 1\nmicrocode\t: 0x2b\n', maps: '00400000-00402000 r-xp 00000000 08:01 77 /a\n00500000-00502000 r-xp 00000000 08:01 77 /b\n' })).toMatchObject({
    cpuInfo: 'family 6 model 63 stepping 2', cpuCount: 12, cpuMicrocode: '0x2b', memoryMapCount: 2,
  })
  expect(facts({ ...ONE, cpu: 'x86', threads: [], processor: { ...processor, vendor: 'GenuineIntel' } })?.cpuInfo).toBe('GenuineIntel family 6 model 63 stepping 2')
  expect(facts({ ...ONE, cpu: 'arm', threads: [], processor: { ...processor, level: 7 } })?.cpuInfo).toBe('ARMv7')
})

test.each([
  ['DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=16.04\nDISTRIB_CODENAME=xenial\nDISTRIB_DESCRIPTION="Ubuntu 16.04.3 LTS"\n', { id: 'Ubuntu', release: '16.04', codename: 'xenial', description: 'Ubuntu 16.04.3 LTS' }],
  ['PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n', { id: 'debian', release: '12', codename: 'bookworm', description: 'Debian GNU/Linux 12 (bookworm)' }],
  ['garbage', { id: '', release: '', codename: '', description: '' }],
])('the distribution from %j', (lsbRelease, distribution) => {
  expect(facts({ ...ONE, lsbRelease })?.distribution).toEqual(distribution)
})

test('uptime is the dump\'s time less the start of the process, where both are told and in order', () => {
  // drawMinidump's time is 1,700,000,000.
  expect(facts({ ...ONE, pid: 9, startedAt: 1_699_999_990 })?.uptime).toBe(10)
  expect(facts({ ...ONE, pid: 9, startedAt: 1_700_000_001 })?.uptime).toBeNull()
  expect(facts({ ...ONE, pid: 9 })?.uptime).toBeNull()
})

test('libraries\' last words on macOS are kept, and the first of them is the message', () => {
  const dump = parsed({
    ...ONE, os: 'macos', bootArguments: 'amfi_get_out_of_my_way=1', macCrashInfo: [
      { version: 5n, thread: 3n, dialogMode: 0n, abortCause: 9n, strings: ['/usr/lib/libdyld.dylib', '', '', '', ''] },
      { version: 4n, thread: 0n, dialogMode: 1n, abortCause: 0n, strings: ['/usr/lib/system/libsystem_c.dylib', 'abort() called\n', 'sig', 'bt', 'two'] },
    ],
  })
  expect(dump.abortMessage).toBe('abort() called')
  expect(dump.facts?.macBootArguments).toBe('amfi_get_out_of_my_way=1')
  expect(dump.facts?.macCrashInfo).toEqual([
    { thread: 3n, dialogMode: 0n, abortCause: 9n, module: '/usr/lib/libdyld.dylib', message: '', signature_string: '', backtrace: '', message2: '' },
    { thread: 0n, dialogMode: 1n, abortCause: 0n, module: '/usr/lib/system/libsystem_c.dylib', message: 'abort() called\n', signature_string: 'sig', backtrace: 'bt', message2: 'two' },
  ])
})

test.each<[string, Drawn['os'], number, number, string]>([
  ['a guarded file', 'macos', 12, 0x4000_0001, 'EXC_GUARD / GUARD_TYPE_FD / GUARD_EXC_CLOSE'],
  ['a guarded port', 'ios', 12, 0x2000_0010, 'EXC_GUARD / GUARD_TYPE_MACH_PORT / GUARD_EXC_INCORRECT_GUARD'],
  ['a used-up processor', 'ios', 11, 0x2800_0000, 'EXC_RESOURCE / RESOURCE_TYPE_CPU / FLAVOR_CPU_MONITOR_FATAL'],
  ['used-up memory', 'ios', 11, 0x6400_0000, 'EXC_RESOURCE / RESOURCE_TYPE_MEMORY / FLAVOR_HIGH_WATERMARK'],
  ['a resource that nobody knows', 'macos', 11, 0xe000_0000, 'EXC_RESOURCE / 0xe0000000'],
  ['code whose signature is broken', 'ios', 1, 50, 'EXC_BAD_ACCESS / KERN_CODESIGN_ERROR'],
  ['a pointer whose authentication failed', 'ios', 1, 0x105, 'EXC_BAD_ACCESS / EXC_ARM_PAC_FAIL'],
])('the reason of %s', (_, os, code, flags, type) => {
  expect(parsed({ ...ONE, os, cpu: 'arm64', threads: [{ id: 7 }], exception: { thread: 7, code, flags } }).exception?.type).toBe(type)
})

test.each<[number, bigint[], string]>([
  [0xc0000006, [0n, 0x1000n, 0xc000009an], 'EXCEPTION_IN_PAGE_ERROR_READ / STATUS_INSUFFICIENT_RESOURCES'],
  [0xc0000006, [1n, 0x1000n, 0xc000000en], 'EXCEPTION_IN_PAGE_ERROR_WRITE / STATUS_NO_SUCH_DEVICE'],
  [0xc0000409, [10n], 'EXCEPTION_STACK_BUFFER_OVERRUN / FAST_FAIL_GUARD_ICALL_CHECK_FAILURE'],
  [0xc0000409, [57n], 'EXCEPTION_STACK_BUFFER_OVERRUN / FAST_FAIL_CONTROL_INVALID_RETURN_ADDRESS'],
  [0xc0000409, [999n], 'EXCEPTION_STACK_BUFFER_OVERRUN / 0x000003e7'],
  [0xe06d7363, [], 'UNHANDLED_CPP_EXCEPTION'], [0xe0434352, [], 'UNHANDLED_CLR_EXCEPTION'], [0xc0000374, [], 'STATUS_HEAP_CORRUPTION'], [0xc0000602, [], 'STATUS_FAIL_FAST_EXCEPTION'],
  [0xc0000135, [], 'STATUS_DLL_NOT_FOUND'], [0xdeadbeef, [], 'unknown 0xdeadbeef'],
])('Windows\' code %x with %j', (code, parameters, type) => {
  expect(parsed({ ...ONE, os: 'windows', exception: { thread: 7, code, parameters } }).exception?.type).toBe(type)
})

const oracle = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../../shared/corpus'), 'minidump/oracle/rust-minidump')
const here = existsSync(oracle)
test('the corpus is there wherever CI runs', () => expect(here || process.env.CI !== 'true', `${oracle} is missing: set OVERRUN_CORPUS`).toBe(true))

/** rust-minidump's names of systems; ours are Dump's. */
const SYSTEMS: Record<string, string> = { Linux: 'linux', 'Windows NT': 'windows', 'Mac OS X': 'macos', Android: 'android' }

interface Theirs {
  pid: number | null
  process_uptime: number | null
  main_module: number
  linux_memory_map_count: number | null
  lsb_release: Report['lsb_release'] | null
  system_info: { os: string; os_ver: string | null; cpu_arch: string; cpu_info: string | null; cpu_count: number; cpu_microcode_version: string | null }
  threads: { thread_id: number; thread_name: string | null }[]
  modules: { base_addr: string; end_addr: string; filename: string; code_id: string | null; debug_file: string | null; debug_id: string | null; version: string | null }[]
  unloaded_modules: { base_addr: string; filename: string }[]
}

describe.skipIf(!here)(`what rust-minidump says of ${oracle}${here ? '' : ' (absent)'}`, () => {
  const dumps = here ? readdirSync(oracle).map((file) => file.replace(/\.dmp\.json$/, '')) : []

  test.each(dumps)('%s', async (dump) => {
    const theirs = JSON.parse(readFileSync(join(oracle, `${dump}.dmp.json`), 'utf8')) as Theirs
    const [folder, ...rest] = dump.split('__')
    const { report } = await analyseNative(readFileSync(join(oracle, '../..', folder!.replace(/^own-/, ''), `${rest.at(-1)}.dmp`)), '', { find: async () => ({ status: 'missing', reason: '' }) })
    const { os, os_ver, cpu_arch, cpu_info, cpu_count, cpu_microcode_version } = theirs.system_info
    expect(report.system_info).toMatchObject({ os: SYSTEMS[os], os_ver: os_ver?.trim() ?? null, cpu_arch, cpu_count, ...(cpu_info === null ? {} : { cpu_info }), ...(cpu_microcode_version === null ? {} : { cpu_microcode_version }) })
    expect(report.pid).toBe(theirs.pid)
    expect(report.process_uptime ?? null).toBe(theirs.process_uptime)
    expect(report.lsb_release ?? null).toEqual(theirs.lsb_release)
    expect(report.threads.map(({ thread_id, thread_name }) => ({ thread_id, thread_name }))).toEqual(theirs.threads.map(({ thread_id, thread_name }) => ({ thread_id, thread_name })))
    // Old Breakpad on Linux: rust-minidump makes a Windows id from a time stamp of 0 and the size; ours is the ELF build id.
    const oldLinux = theirs.modules.some(({ code_id: id }) => id?.startsWith('00000000'))
    const module = ({ base_addr, end_addr, filename, code_id, debug_file, debug_id, version }: Theirs['modules'][number]): object => ({
      base_addr, end_addr, filename, version,
      // Where nothing identifies the module rust-minidump prints zeros and empty text, or no id at all; ours is null.
      ...(debug_id === null || /^0+$/.test(debug_id) ? {} : { code_id: oldLinux ? '' : code_id, debug_file, debug_id }),
    })
    const byBase = <T extends { base_addr: string }>(list: T[]): T[] => list.toSorted((a, b) => (a.base_addr < b.base_addr ? -1 : 1))
    expect(byBase(report.modules).map(module)).toEqual(byBase(theirs.modules).map(module))
    expect((report.unloaded_modules ?? []).map(({ base_addr, filename }) => ({ base_addr, filename }))).toEqual(theirs.unloaded_modules.map(({ base_addr, filename }) => ({ base_addr, filename })))
  })
})

const facts = (drawn: Drawn) => parsed(drawn).facts

function parsed(drawn: Drawn) {
  const result = parseMinidump(drawMinidump(drawn))
  if (!('dump' in result)) throw new Error(`${result.slug}: ${result.reason}`)
  return result.dump
}
