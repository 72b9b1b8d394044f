import { z } from 'zod'

/**
 * What a dump said, frame by frame: `Report` of symbolicate/contract.ts as the pages read it. Names and forms are those of
 * contract.ts.
 */
const count = z.int().nonnegative()

const reportFrame = z.object({
  frame: count,
  trust: z.enum(['context', 'cfi', 'frame_pointer', 'scan', 'given', 'none']),
  module: z.string().nullable(),
  module_offset: z.string().nullable(),
  offset: z.string(),
  function: z.string().nullable(),
  function_offset: z.string().nullable(),
  file: z.string().nullable(),
  line: count.nullable(),
  inlines: z.array(z.object({ function: z.string(), file: z.string().nullable(), line: count.nullable() })).nullable(),
  missing_symbols: z.boolean(),
  approximate: z.boolean(),
  repeats: count.optional(),
  registers: z.record(z.string(), z.string()).optional(),
})
const reportThread = z.object({
  threads_index: count,
  thread_id: z.number(),
  thread_name: z.string().nullable(),
  frame_count: count,
  frames: z.array(reportFrame),
  frames_omitted: count,
})
export const reportSchema = z.object({
  status: z.string(),
  format: z.string(),
  pid: z.number().nullable(),
  system_info: z.object({ os: z.string(), os_ver: z.string().nullable(), cpu_arch: z.string() }),
  crash_info: z.object({
    type: z.string().nullable(),
    address: z.string().nullable(),
    crashing_thread: count.nullable(),
    assertion: z.string().nullable(),
    access: z.string(),
  }),
  crashing_thread: reportThread.nullable(),
  threads: z.array(reportThread),
  modules: z.array(z.object({
    base_addr: z.string(),
    end_addr: z.string(),
    filename: z.string(),
    code_id: z.string().nullable(),
    debug_file: z.string().nullable(),
    debug_id: z.string().nullable(),
    version: z.string().nullable(),
    symbol_status: z.string(),
    symbol_reason: z.string().nullable(),
  })),
  main_module: count.nullable(),
  annotations: z.record(z.string(), z.string()),
  notes: z.array(z.object({ slug: z.string(), text: z.string() })),
})
export type CrashReport = z.infer<typeof reportSchema>
