/**
 * One frame as the sanitizers print it (compiler-rt's StackTracePrinter and its GWP-ASan printer).
 *
 *   line     = ' '* '#' index ' '+ rest
 *   rest     = address ' in ' function [' ' place] [module]     symbolised
 *            | address ' '* module                              unsymbolised
 *            | function [' ' place] [module]                    TSan leaves the address out
 *            | path '(' [function] '+' offset ') [' address ']' GWP-ASan
 *   place    = file [':' line [':' column]] | '??:0' | '<null>'
 *   module   = ' (' path '+' offset ')' [' (BuildId: ' hex ')']
 *
 * Functions hold blanks and parentheses, paths hold blanks: the place starts at the first blank outside of parentheses
 * and angle brackets that something path-like follows. Everything is found by walking, so a line costs its length.
 */
import type { TextFrame } from '../dump.ts'

export interface FrameLine { index: number; frame: TextFrame; buildId: string | null }

export function parseFrameLine(line: string): FrameLine | null {
  const head = /^\s{0,64}#(\d{1,4})\s{1,64}/.exec(line)
  if (!head) return null
  const index = Number(head[1])
  let rest = line.slice(head[0].length).trimEnd()
  if (rest === '') return null

  const build = /^(.*) \(BuildId: ([0-9a-fA-F]{8,64})\)$/.exec(rest)
  if (build) rest = build[1]!
  const buildId = build ? build[2]!.toLowerCase() : null

  const gwp = gwpFrame(rest)
  if (gwp) return { index, frame: gwp, buildId }

  const frame: TextFrame = { address: null, module: null, moduleOffset: null, function: null, file: null, line: null, column: null, inline: false }
  const address = /^(?:0x([0-9a-fA-F]{1,16})|([0-9a-fA-F]{8,16}))(?=\s|$)/.exec(rest)
  if (address) {
    frame.address = BigInt(`0x${address[1] ?? address[2]}`)
    rest = rest.slice(address[0].length).trimStart()
  }
  rest = takeModule(rest, frame)
  if (rest.startsWith('in ')) rest = rest.slice(3)
  else if (address && rest === 'in') rest = ''
  takeFunctionAndPlace(rest.trim(), frame)
  if (frame.address === null && frame.function === null && frame.module === null) return null
  return { index, frame, buildId }
}

/** `/lib/x.so(name+0x2a) [0x7f...]` */
function gwpFrame(rest: string): TextFrame | null {
  const end = /\) \[0x([0-9a-fA-F]{1,16})\]$/.exec(rest)
  if (!end) return null
  const open = rest.lastIndexOf('(', end.index)
  const plus = rest.lastIndexOf('+', end.index)
  if (open <= 0 || plus < open) return null
  const offset = hexNumber(rest.slice(plus + 1, end.index))
  const name = rest.slice(open + 1, plus)
  return {
    address: BigInt(`0x${end[1]}`), module: rest.slice(0, open), moduleOffset: name === '' ? offset : null,
    function: name === '' ? null : name, file: null, line: null, column: null, inline: false,
  }
}

/** Takes ` (path+0xoffset)` off the end. The path may hold blanks and parentheses: the opening one is the last after a blank. */
function takeModule(rest: string, frame: TextFrame): string {
  const end = /\+0x([0-9a-fA-F]{1,16})\)$/.exec(rest)
  if (!end) return rest
  let open = rest.startsWith('(') ? 0 : -1
  for (let i = end.index; i > 0; i--) if (rest[i] === '(' && rest[i - 1] === ' ') { open = i; break }
  if (open < 0) return rest
  frame.module = rest.slice(open + 1, end.index)
  frame.moduleOffset = hexNumber(end[1]!)
  return rest.slice(0, open).trimEnd()
}

function takeFunctionAndPlace(rest: string, frame: TextFrame): void {
  const split = placeStart(rest)
  const name = split < 0 ? rest : rest.slice(0, split)
  if (name !== '' && name !== '??' && name !== '<null>') frame.function = name
  if (split < 0) return
  const place = rest.slice(split + 1)
  const position = /^(.*?):(\d{1,9})(?::(\d{1,9}))?$/.exec(place)
  const file = position ? position[1]! : place
  if (file === '' || file === '??' || file === '<null>' || file === '??:?') return
  frame.file = file
  if (position && Number(position[2]) > 0) frame.line = Number(position[2])
  if (position?.[3] !== undefined && Number(position[3]) > 0) frame.column = Number(position[3])
}

/** Index of the blank before the place, -1 where there is none. */
function placeStart(rest: string): number {
  let round = 0
  let angle = 0
  let tail = -1
  for (let i = 0; i < rest.length; i++) {
    const c = rest[i]
    if (c === '(') round++
    else if (c === ')') round = Math.max(0, round - 1)
    else if (c === '<' && !isOperator(rest, i)) angle++
    else if (c === '>' && rest[i - 1] !== '-' && !isOperator(rest, i)) angle = Math.max(0, angle - 1)
    else if (c === ' ' && round === 0) {
      if (/^(?:\.{0,2}\/|[A-Za-z]:[\\/]|\?\?|<null>)/.test(rest.slice(i + 1, i + 8))) return i
      if (angle === 0) tail = i
    }
  }
  // A relative path has no mark of its own at its start: the last word counts when it ends as a place or as a source file.
  return tail >= 0 && /(?::\d{1,9}|\.(?:c|cc|cpp|cxx|h|hh|hpp|inc|m|mm|rs|s|S|asm|swift|go))$/.test(rest.slice(tail + 1)) ? tail : -1
}

/** `operator<`, `operator->`, `operator<<` are names, not brackets. */
const isOperator = (text: string, at: number): boolean => {
  let i = at
  while (i > 0 && at - i < 2 && '<>=-'.includes(text[i - 1]!)) i--
  return text.slice(Math.max(0, i - 8), i) === 'operator'
}

const hexNumber = (digits: string): number | null => {
  const value = Number.parseInt(digits.replace(/^0x/, ''), 16)
  return Number.isSafeInteger(value) ? value : null
}
