import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { messageOf } from '../../infra/service/errors.ts'
import { symbolSettingsSchema } from '../config.ts'
import { withLocalSandbox } from '../sandbox/local.ts'
import type { Pool } from '../sandbox/pool.ts'
import { describe, type Described } from './store.ts'

/** `overrun symbols check`: offline, would these files be of use, for which build, and what do they lack? */
type Checked = { file: string; usable: true; advice: string[]; sha256: string } & Described | { file: string; usable: false; reason: string }

export async function check(files: readonly string[], json: boolean): Promise<number> {
  return withLocalSandbox(async ({ symbolFiles }) => {
    let unusable = 0
    for (const file of files) {
      const checked = await checkFile(symbolFiles, file)
      if (!checked.usable) unusable++
      console.log(json ? JSON.stringify(checked) : describeCheck(checked))
    }
    return unusable === 0 ? 0 : 21
  })
}

async function checkFile(pool: Pool, file: string): Promise<Checked> {
  try {
    const { size } = await stat(file)
    const most = symbolSettingsSchema.parse({}).maxFileBytes
    if (size > most) return { file, usable: false, reason: `${size} bytes, at most ${most} are taken` }
    const bytes = await readFile(file)
    const end = await pool.run(async () => ({ t: 'prepare', bytes, name: basename(file) }), {
      symbols: async () => ({ status: 'missing', reason: 'not asked while preparing' }),
      map: async () => null,
    }).end
    if (end.t !== 'prepared') return { file, usable: false, reason: 'reason' in end ? end.reason : 'not a symbol file' }
    const described = describe(end.prepared)
    return { file, usable: true, ...described, sha256: createHash('sha256').update(bytes).digest('hex'), advice: adviceFor(described) }
  } catch (error) {
    return { file, usable: false, reason: messageOf(error) }
  }
}

const BUILD_ID = [
  'no build id: a dump can name this build by the SHA-256 of this very file only (ESP-IDF does). Link with a build id:',
  '  GCC, Clang   -Wl,--build-id=sha1',
  '  Rust         RUSTFLAGS="-C link-arg=-Wl,--build-id=sha1"',
  '  Zephyr       zephyr_ld_options(-Wl,--build-id=sha1) in CMakeLists.txt',
  '  own script   KEEP(*(.note.gnu.build-id)) in a section that is loaded, so that firmware can send it',
  '  ESP-IDF      not needed; keep the ELF file that was flashed, unchanged',
]

/** What an ELF file lacks, and the flag that gives it. */
function adviceFor(described: Described): string[] {
  if (described.kind !== 'elf') return []
  const { codeId, functions, lines, cfiRules, arch } = described
  return [
    ...(codeId === null ? BUILD_ID : []),
    ...(functions === 0 ? ['no functions: it was stripped. Its debug file, or the file before strip, has them; upload that too'] : []),
    ...(functions > 0 && lines === 0 ? ['no lines and no inlined calls: compile with -g (Rust: debug = true in the profile)'] : []),
    // Xtensa's register windows are unwound without.
    ...(cfiRules === 0 && arch !== 'xtensa' ? ['no unwind rules: compile with -g or -fasynchronous-unwind-tables; a debug file has none, its program does'] : []),
  ]
}

function describeCheck(checked: Checked): string {
  if (!checked.usable) return `${checked.file}\n  usable: no\n  reason: ${checked.reason}`
  return [checked.file, ...factsOf(checked).map((line) => `  ${line}`), '  usable: yes'].join('\n')
}

function factsOf(checked: Checked & { usable: true }): string[] {
  if (checked.kind === 'source-map') return ['kind: source map', `file: ${checked.file || '-'}`, `debug id: ${checked.debugId}`, `sources: ${checked.sources}`]
  return [
    `kind: ${checked.kind === 'elf' ? 'ELF' : 'Breakpad symbols'}`, `module: ${checked.debugFile}`, `debug id: ${checked.debugId}`,
    ...(checked.kind === 'elf' ? [`build id: ${checked.codeId ?? '-'}`, `SHA-256: ${checked.sha256}`] : [`code id: ${checked.codeId ?? '-'}`]), `arch: ${checked.arch}`,
    `functions: ${checked.functions}`, `line records: ${checked.lines}`, `public names: ${checked.publics}`, `unwind rules: ${checked.cfiRules}`,
    ...checked.problems.map((problem) => `note: ${problem}`), ...checked.advice.map((line) => (line.startsWith('  ') ? `  ${line}` : `note: ${line}`)),
  ]
}
