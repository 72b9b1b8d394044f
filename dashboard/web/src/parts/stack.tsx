import { useState } from 'react'
import type { CrashReport } from '../../../api/report-contract.ts'
import { Badge } from './basics.tsx'

type Frame = CrashReport['threads'][number]['frames'][number]

const TRUST: Record<string, { words: string; tone: '' | 'ok' | 'warn' }> = {
  context: { words: 'from the registers', tone: 'ok' },
  cfi: { words: 'by call-frame information', tone: 'ok' },
  frame_pointer: { words: 'by frame pointer', tone: 'ok' },
  scan: { words: 'found by scanning the stack: may be left over', tone: 'warn' },
  given: { words: 'as the report states it', tone: 'ok' },
  none: { words: 'unknown', tone: 'warn' },
}
const basename = (path: string | null): string => path?.split(/[\\/]/).at(-1) ?? ''

/** One thread's frames, inline calls above the frame that holds them; names counted in the signature are bold. */
export function StackView({ frames, counted, omitted }: { frames: Frame[]; counted: ReadonlySet<string>; omitted: number }) {
  const [raw, setRaw] = useState(false)
  return (
    <div>
      <div className="badges" style={{ justifyContent: 'flex-end' }}>
        <button className="action" type="button" onClick={() => setRaw(!raw)}>{raw ? 'Show symbols' : 'Show addresses'}</button>
      </div>
      <div className="frames">
        {frames.map((frame) => <FrameRows key={frame.frame} frame={frame} raw={raw} counted={counted} />)}
      </div>
      {omitted > 0 && <p className="muted">{omitted} more frames are folded or left out.</p>}
    </div>
  )
}

function FrameRows({ frame, raw, counted }: { frame: Frame; raw: boolean; counted: ReadonlySet<string> }) {
  const trust = TRUST[frame.trust] ?? TRUST.none!
  const place = `${basename(frame.module) || 'no module'}${frame.module_offset === null ? '' : ` + ${frame.module_offset}`}`
  return (
    <>
      {!raw && frame.inlines?.map((inline, index) => (
        <div className="frame inline" key={index}>
          <span className="muted right">{frame.frame}</span>
          <span><Badge>inlined</Badge></span>
          <span><span className="fn">{inline.function}</span><br /><span className="where">{basename(inline.file)}{inline.line === null ? '' : `:${inline.line}`}</span></span>
        </div>
      ))}
      <div className={`frame ${frame.function !== null && counted.has(frame.function) ? 'counted' : ''}`}>
        <span className="muted right">{frame.frame}</span>
        <span><Badge tone={trust.tone} title={trust.words}>{frame.trust.replace('_', ' ')}</Badge></span>
        <span>
          <span className="fn">{raw ? frame.offset : (frame.function ?? place)}</span>
          {frame.approximate && <> <Badge tone="warn" title="The nearest public name before this address; the real function is unknown, so it is not in the signature">approximate</Badge></>}
          {frame.missing_symbols && frame.module !== null && <> <Badge tone="warn" title="Symbols for this build have not been uploaded">symbols missing</Badge></>}
          {(frame.repeats ?? 1) > 1 && <> <Badge title="Recursion, folded">× {frame.repeats}</Badge></>}
          <br />
          <span className="where">{frame.file !== null && !raw ? `${frame.file}${frame.line === null ? '' : `:${frame.line}`} · ` : ''}{place}{raw ? '' : ` · ${frame.offset}`}</span>
        </span>
      </div>
    </>
  )
}

export function Registers({ frames }: { frames: Frame[] }) {
  const registers = frames[0]?.registers
  if (registers === undefined || Object.keys(registers).length === 0) return <p className="muted">The dump holds no registers of this thread.</p>
  return <div className="registers">{Object.entries(registers).map(([name, value]) => <span key={name}><b>{name}</b>{value}</span>)}</div>
}
