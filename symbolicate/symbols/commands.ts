import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { messageOf } from '../../infra/service/errors.ts'
import { DEFAULT_DATA, findDashboard, type ServerFlags } from '../../infra/service/server-file.ts'
import { check } from './check.ts'
import { isElf } from './elf/elf.ts'
import { filesBelow, firstKilobyte } from './files.ts'
import { missing, type MissingOptions } from './missing.ts'
import { ask, type Server } from './server.ts'

/**
 * `overrun symbols check FILE...`: offline, would these files be of use, for which build, and what do they lack?
 * `overrun symbols upload PATH...`: to a server's symbol store; what is there already is fine.
 * `overrun symbols missing`: which builds' symbols would help most.
 * Exit codes: 0, 2 usage, 10 no token, 11 token refused, 12 forbidden, 20 no server known, 21 unusable, 30 answer of the
 * server, 32 network, 60 some of several failed.
 */
export function registerSymbols(program: Command): void {
  const symbols = program.command('symbols').description('Symbol files: ELF with DWARF, Breakpad .sym and JavaScript source maps')
  symbols.command('check')
    .description('Says for each file which build it is for, whether it is usable and what it lacks; exit code 21 when one is not')
    .argument('<file...>', 'symbol files')
    .option('--json', 'one JSON object a file')
    .action(async (files: string[], options: { json?: true }) => {
      process.exitCode = await check(files, options.json === true)
    })
  server(symbols.command('upload'))
    .description('Sends symbol files to a server; repeating it is harmless')
    .argument('<path...>', 'files, or folders that are searched for ELF files, *.sym and *.map')
    .option('--json', 'one JSON object a file')
    .action(async (paths: string[], options: UploadOptions) => {
      process.exitCode = await upload(paths, options)
    })
  server(symbols.command('missing'))
    .description('Modules without symbols, those that most crashes wait for first')
    .option('--since <time>', 'crashes since then, such as 2026-11-01T00:00:00Z; 14 days without it')
    .option('--json', 'one JSON object a module')
    .action(async (options: MissingOptions) => {
      process.exitCode = await missing(options)
    })
}

const server = (command: Command): Command => command
  .option('--url <url>', 'address of the dashboard (OVERRUN_URL)')
  .option('--token <token>', 'its token (OVERRUN_TOKEN)')
  .option('--data <dir>', 'data folder of a server on this machine: address and token are read there', DEFAULT_DATA)

interface UploadOptions extends ServerFlags { json?: true }

const storedSchema = z.object({ key: z.string(), debug_id: z.string(), debug_file: z.string(), reprocessing: z.boolean() })

async function upload(paths: readonly string[], options: UploadOptions): Promise<number> {
  const found = findDashboard(options)
  if ('exit' in found) return complain(found.reason, found.exit)
  const files: string[] = []
  for (const path of paths) {
    try {
      const given = (await stat(path)).isFile()
      for (const file of await filesBelow(path)) if (given || /\.(sym|map)$/.test(file) || isElf(await firstKilobyte(file))) files.push(file)
    } catch (error) {
      return complain(messageOf(error), 21)
    }
  }
  if (files.length === 0) return complain(`no ELF file, *.sym or *.map below ${paths.join(', ')}`, 21)
  const exits: number[] = []
  for (const file of files) {
    const sent = await send(found, file)
    exits.push('exit' in sent ? sent.exit : 0)
    if (options.json) console.log(JSON.stringify({ file, exit: 0, ...('exit' in sent ? sent : sent.answer) }))
    else if ('exit' in sent) console.error(`${file}: ${sent.reason}`)
    else console.log(`${file}: ${sent.answer.debug_file} ${sent.answer.debug_id}${sent.answer.reprocessing ? ', crashes that waited for it are being reprocessed' : ''}`)
  }
  const failed = exits.filter((exit) => exit !== 0)
  return failed.length === 0 ? 0 : failed.length < exits.length ? 60 : (failed[0] ?? 1)
}

async function send(to: Server, file: string) {
  const headers = { 'content-type': 'application/octet-stream' }
  return ask(to, `/api/v1/symbols?name=${encodeURIComponent(basename(file))}`, storedSchema, { method: 'POST', headers, body: await readFile(file) })
}

function complain(reason: string, exit: number): number {
  console.error(reason)
  return exit
}
