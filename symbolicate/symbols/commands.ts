import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { messageOf } from '../../infra/service/errors.ts'
import { DEFAULT_DATA, findDashboard, type ServerFlags } from '../../infra/service/server-file.ts'
import { symbolSettingsSchema } from '../config.ts'
import { withLocalSandbox } from '../sandbox/local.ts'
import type { Pool } from '../sandbox/pool.ts'
import { filesBelow } from './files.ts'
import { describe, type Described } from './store.ts'

/**
 * `overrun symbols check FILE...`: offline, would these files be of use, and for which build?
 * `overrun symbols upload PATH...`: to a server's symbol store; what is there already is fine.
 * Exit codes: 0, 2 usage, 10 no token, 11 token refused, 12 forbidden, 20 no server known, 21 unusable, 30 answer of the
 * server, 32 network, 60 some of several failed.
 */
export function registerSymbols(program: Command): void {
  const symbols = program.command('symbols').description('Symbol files: Breakpad .sym and JavaScript source maps')
  symbols.command('check')
    .description('Says for each file which build it is for and whether it is usable; exit code 21 when one is not')
    .argument('<file...>', 'symbol files')
    .option('--json', 'one JSON object a file')
    .action(async (files: string[], options: { json?: true }) => {
      process.exitCode = await check(files, options.json === true)
    })
  symbols.command('upload')
    .description('Sends symbol files to a server; repeating it is harmless')
    .argument('<path...>', 'files, or folders that are searched for *.sym and *.map')
    .option('--url <url>', 'address of the dashboard (OVERRUN_URL)')
    .option('--token <token>', 'its token (OVERRUN_TOKEN)')
    .option('--data <dir>', 'data folder of a server on this machine: address and token are read there', DEFAULT_DATA)
    .option('--json', 'one JSON object a file')
    .action(async (paths: string[], options: UploadOptions) => {
      process.exitCode = await upload(paths, options)
    })
}

interface UploadOptions extends ServerFlags { json?: true }

type Checked = { file: string; usable: true } & Described | { file: string; usable: false; reason: string }

async function check(files: readonly string[], json: boolean): Promise<number> {
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
    if (end.t === 'prepared') return { file, usable: true, ...describe(end.prepared) }
    return { file, usable: false, reason: 'reason' in end ? end.reason : 'not a symbol file' }
  } catch (error) {
    return { file, usable: false, reason: messageOf(error) }
  }
}

function describeCheck(checked: Checked): string {
  if (!checked.usable) return `${checked.file}\n  usable: no\n  reason: ${checked.reason}`
  const lines = checked.kind === 'source-map'
    ? [`kind: source map`, `file: ${checked.file || '-'}`, `debug id: ${checked.debugId}`, `sources: ${checked.sources}`]
    : [`kind: ${checked.kind === 'elf' ? 'ELF' : 'Breakpad symbols'}`, `module: ${checked.debugFile}`, `debug id: ${checked.debugId}`, `code id: ${checked.codeId ?? '-'}`, `arch: ${checked.arch}`,
        `functions: ${checked.functions}`, `line records: ${checked.lines}`, `public names: ${checked.publics}`, `unwind rules: ${checked.cfiRules}`, ...checked.problems.map((problem) => `note: ${problem}`)]
  return [checked.file, ...lines.map((line) => `  ${line}`), '  usable: yes'].join('\n')
}

interface Server { url: string; token: string }

const storedSchema = z.object({ key: z.string(), debug_id: z.string(), debug_file: z.string(), reprocessing: z.boolean() })
const problemSchema = z.object({ title: z.string().optional(), detail: z.string().optional(), hint: z.string().optional() })

async function upload(paths: readonly string[], options: UploadOptions): Promise<number> {
  const server = findDashboard(options)
  if ('exit' in server) return complain(server.reason, server.exit)
  const files: string[] = []
  for (const path of paths) {
    try {
      const given = (await stat(path)).isFile()
      files.push(...(await filesBelow(path)).filter((file) => given || /\.(sym|map)$/.test(file)))
    } catch (error) {
      return complain(messageOf(error), 21)
    }
  }
  if (files.length === 0) return complain(`no *.sym or *.map below ${paths.join(', ')}`, 21)
  const exits: number[] = []
  for (const file of files) {
    const sent = await send(server, file)
    exits.push(sent.exit)
    if (options.json) console.log(JSON.stringify({ file, ...sent }))
    else if (sent.exit === 0) console.log(`${file}: ${sent.debug_file} ${sent.debug_id}${sent.reprocessing ? ', crashes that waited for it are being reprocessed' : ''}`)
    else console.error(`${file}: ${sent.reason}`)
  }
  const failed = exits.filter((exit) => exit !== 0)
  return failed.length === 0 ? 0 : failed.length < exits.length ? 60 : (failed[0] ?? 1)
}

type Sent = { exit: 0 } & z.infer<typeof storedSchema> | { exit: number; reason: string }

async function send({ url, token }: Server, file: string): Promise<Sent & { debug_file?: string; debug_id?: string; reprocessing?: boolean; reason?: string }> {
  const target = new URL(`/api/v1/symbols?name=${encodeURIComponent(basename(file))}`, url)
  let response: Response
  try {
    response = await fetch(target, { method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' }, body: await readFile(file), redirect: 'error' })
  } catch (error) {
    return { exit: 32, reason: `${target.origin}: ${messageOf(error)}${error instanceof Error && error.cause ? `: ${messageOf(error.cause)}` : ''}` }
  }
  const body: unknown = await response.json().catch(() => null)
  const stored = response.ok ? storedSchema.safeParse(body) : null
  if (stored?.success) return { exit: 0, ...stored.data }
  const { title, detail, hint } = problemSchema.safeParse(body).data ?? {}
  const reason = [`${response.status} ${title ?? response.statusText}`, detail, hint].filter(Boolean).join(': ')
  return { exit: { 401: 11, 403: 12, 413: 21, 422: 21 }[response.status] ?? 30, reason }
}

function complain(reason: string, exit: number): number {
  console.error(reason)
  return exit
}
