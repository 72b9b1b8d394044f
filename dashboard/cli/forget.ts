import type { Command } from 'commander'
import { createInterface } from 'node:readline/promises'
import { forgottenSchema } from '../api/upkeep-contract.ts'
import { CommandError, connectServer, ending, serverOptions, type ServerOptions } from './server-client.ts'

/** `overrun device forget`: asks step by step until nothing is left, so it may be cut and given again at any time. */
interface ForgetOptions extends ServerOptions { fleet: string; reason: string; yes?: boolean; json?: boolean }

export function registerForget(device: Command): void {
  serverOptions(device.command('forget'))
    .description('Take away what is kept of a device: its dumps and manifests, its crashes, its name')
    .argument('<id>', 'the device, as the pages name it')
    .requiredOption('--reason <text>', 'kept in the audit log')
    .option('--fleet <name>', 'the fleet', 'default')
    .option('--yes', 'do not ask')
    .option('--json', 'print one line of JSON')
    .addHelpText('after', '\nThe audit log keeps what people did to it, under its name. The log keeps its messages until their retention.\n'
      + 'A device that goes on reporting is known again: disable it first.')
    .action(ending('device forget', async (id: string, { fleet, reason, yes, json, ...options }: ForgetOptions) => {
      if (!yes) await confirm(`Forget device ${id} of fleet ${fleet}? This can't be undone. Type its name: `, id)
      const server = connectServer(options)
      const done = { packs: 0, bytes: 0, dumps: 0, rows: {} as Record<string, number> }
      for (let after: string | null = ''; after !== null;) {
        const { next, packs, bytes, dumps, rows }: typeof done & { next: string | null } =
          await server.post(`/devices/${encodeURIComponent(id)}/forget?fleet=${encodeURIComponent(fleet)}`, { reason, after }, forgottenSchema)
        done.packs += packs
        done.bytes += bytes
        done.dumps += dumps
        for (const [table, count] of Object.entries(rows)) done.rows[table] = (done.rows[table] ?? 0) + count
        after = next
      }
      if (json) console.log(JSON.stringify({ fleet, device: id, ...done }))
      else console.log(inWords(id, done))
    }))
}

function inWords(id: string, { packs, bytes, dumps, rows: { crashes = 0, ...others } }: { packs: number; bytes: number; dumps: number; rows: Record<string, number> }): string {
  const rest = Object.entries(others).map(([table, count]) => `${table} ${count}`).join(', ')
  return `${id} is forgotten: ${crashes} crashes; ${bytes} bytes in ${packs} packs are zeros now, ${dumps} large dumps are gone. Rows that went with them: ${rest || 'none'}.`
}

async function confirm(question: string, answer: string): Promise<void> {
  if (!process.stdin.isTTY) throw new CommandError(21, 'nobody is there to ask: give --yes')
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    if (await terminal.question(question) !== answer) throw new CommandError(21, 'that is not its name: nothing was done')
  } finally {
    terminal.close()
  }
}
