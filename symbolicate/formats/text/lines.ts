/**
 * Lines of a log that nobody vouches for: decoded leniently, capped in bytes, lines and length, so that whatever
 * reads them is linear in a known bound. What was cut is said in `notes`, never hidden.
 */
import type { Note } from '../dump.ts'

export interface TextBudget { bytes: number; lines: number; lineLength: number; frames: number }
export const TEXT_BUDGET: TextBudget = { bytes: 4 * 1024 * 1024, lines: 50_000, lineLength: 4_096, frames: 512 }

export interface Lines { lines: string[]; notes: Note[] }

export function linesOf(bytes: Uint8Array, budget: TextBudget): Lines {
  const notes: Note[] = []
  if (bytes.length > budget.bytes) notes.push(cut(`${bytes.length - budget.bytes} of ${bytes.length} bytes`))
  const text = new TextDecoder('utf-8', { fatal: false }).decode(bytes.subarray(0, budget.bytes))
  const lines: string[] = []
  let longLines = 0
  let start = 0
  while (start < text.length && lines.length < budget.lines) {
    const newline = text.indexOf('\n', start)
    const end = newline < 0 ? text.length : newline
    const stop = Math.min(end, start + budget.lineLength)
    if (stop < end) longLines++
    lines.push(text.charCodeAt(stop - 1) === 13 && stop > start ? text.slice(start, stop - 1) : text.slice(start, stop))
    start = end + 1
  }
  if (start < text.length) notes.push(cut(`everything after line ${budget.lines}`))
  if (longLines > 0) notes.push(cut(`the end of ${longLines} line${longLines === 1 ? '' : 's'} longer than ${budget.lineLength} characters`))
  return { lines, notes }
}

const cut = (what: string): Note => ({ slug: 'text-cut', text: `log: left out ${what}` })
