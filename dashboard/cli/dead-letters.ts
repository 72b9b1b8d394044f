import { Option, type Command } from 'commander'
import { deadLettersPageSchema } from '../api/contract.ts'
import { DEAD_LETTER_STATES } from '../api/requests.ts'
import { REPLAY_REASONS, replayedSchema } from '../api/upkeep-contract.ts'
import { CommandError, connectServer, ending, serverOptions, type ServerOptions } from './server-client.ts'

/** `overrun dead-letters`: what could not become a crash, and putting it back once what was wrong is put right. */
interface ListOptions extends ServerOptions { state: string; limit: number; json?: boolean }
interface ReplayOptions extends ServerOptions { all?: boolean; reason?: string; json?: boolean }

const PAGE = 200

export function registerDeadLetters(program: Command): void {
  const letters = program.command('dead-letters').description('What could not become a crash')

  serverOptions(letters.command('list'))
    .description('List dead letters, the newest first: id, time, reason, stage, key, bytes, and why')
    .addOption(new Option('--state <state>', 'which ones').choices([...DEAD_LETTER_STATES]).default('waiting'))
    .option('--limit <number>', 'at most so many', Number, 100)
    .option('--json', 'print one line of JSON for each')
    .action(ending('dead-letters list', async ({ state, limit, json, ...options }: ListOptions) => {
      if (!(limit >= 1)) throw new CommandError(21, '--limit: a number from 1 is expected')
      const server = connectServer(options)
      let left = Math.floor(limit)
      for (let cursor: string | null = ''; cursor !== null && left > 0;) {
        const at: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
        const page = await server.get(`/dead-letters?state=${state}&limit=${Math.min(left, PAGE)}${at}`, deadLettersPageSchema)
        for (const letter of page.items) {
          const { id, at: time, slug, stage, key, message_length, reason, replayed_at } = letter
          console.log(json ? JSON.stringify(letter) : printable(`${id}  ${time}  ${slug}  ${stage}  ${key || '-'}  ${message_length}  ${replayed_at === null ? '' : `(put back ${replayed_at}) `}${reason}`))
        }
        left -= page.items.length
        cursor = page.next
      }
    }))

  serverOptions(letters.command('replay'))
    .description('Put dead letters back into the log, as they were; a crash that is counted already is not counted again')
    .argument('[id...]', 'ids, as the list has them')
    .option('--all', 'all that wait')
    .addOption(new Option('--reason <reason>', 'with --all: only those with this reason').choices([...REPLAY_REASONS]))
    .option('--json', 'print one line of JSON')
    .addHelpText('after', '\nA letter that fails again becomes a new one, which names the first.')
    .action(ending('dead-letters replay', async (ids: string[], { all, reason, json, ...options }: ReplayOptions) => {
      if ((ids.length > 0) === (all === true)) throw new CommandError(21, 'give ids, or --all')
      const body = all ? { all: true, ...(reason === undefined ? {} : { reason }) } : { ids }
      const answer = await connectServer(options).post('/dead-letters/replay', body, replayedSchema)
      if (json) console.log(JSON.stringify(answer))
      else {
        for (const { id, words } of answer.skipped) console.error(printable(`${id} stays: ${words}`))
        console.log(`${answer.replayed.length} put back into the log.`)
      }
      if (answer.replayed.length === 0 && answer.skipped.length > 0) process.exitCode = 21
    }))
}

/** Keys and reasons may hold what somebody else wrote; a terminal must not obey it. */
const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\ufffd')
