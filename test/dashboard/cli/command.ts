import { Command } from 'commander'
import { vi } from 'vitest'

/** Runs a command in this process, as a terminal would see it. */
export async function run(register: (program: Command) => void, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const program = new Command('overrun')
  register(program)
  const out = vi.spyOn(console, 'log').mockImplementation(() => {})
  const err = vi.spyOn(console, 'error').mockImplementation(() => {})
  const before = process.exitCode
  try {
    process.exitCode = 0
    await program.parseAsync(args, { from: 'user' })
    const text = (spy: typeof out) => spy.mock.calls.map(([line]) => String(line)).join('\n')
    return { code: Number(process.exitCode), out: text(out), err: text(err) }
  } finally {
    process.exitCode = before
    out.mockRestore()
    err.mockRestore()
  }
}
