import { Command } from 'commander'
import { registerExplain } from '../../symbolicate/explain.ts'
import { registerSymbols } from '../../symbolicate/symbols/commands.ts'

/** The two commands of this folder behind a door of their own, which opens quicker than the whole program. */
const program = new Command('overrun').exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
registerExplain(program)
registerSymbols(program)
await program.parseAsync()
