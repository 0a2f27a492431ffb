import { WireType } from "@bufbuild/protobuf/wire";
import type { SupportedValues } from "../gen/pbflags/options_pb.ts";
import { grown } from "./grown.ts";
import { fitting, NO_VALUE, ofFlagDefault, readOne, readSupportedValues, type Value } from "./read-values.ts";
import type { WireReader } from "./wire-reader.ts";

/** What `pbflags.FlagOptions` says, read by hand: a set may hold twenty thousand of them. */
export interface FlagOption {
  readonly description: string;
  readonly layer: string;
  /** Field 3: where pbflags v0.4 and v0.5 kept the layer, as an enum. */
  readonly oldLayer: number | undefined;
  readonly defaultValue: Value | { readonly case: typeof unknownKind };
  readonly supportedValues: SupportedValues | undefined;
}

/** Stands for a kind of value that is not known here. */
export const unknownKind = "a field unknown here";

/** Throws a WireError. */
export function readFlagOption(option: WireReader): FlagOption {
  let description = "";
  let layer = "";
  let oldLayer: number | undefined;
  let defaults: WireReader[] | undefined;
  let supported: WireReader[] | undefined;
  while (option.next()) {
    if (option.no === 1) description = fitting(option, "description").strictText();
    else if (option.no === 2) defaults = grown(defaults, fitting(option, "default").message());
    else if (option.no === 3 && option.wireType === WireType.Varint) oldLayer = option.int32();
    else if (option.no === 4) {
      supported = grown(supported, fitting(option, "supported_values").message());
    } else if (option.no === 5) layer = fitting(option, "layer").strictText();
  }
  return {
    description,
    layer,
    oldLayer,
    defaultValue: defaults === undefined ? NO_VALUE : readDefault(defaults),
    supportedValues: supported === undefined ? undefined : readSupportedValues(supported),
  };
}

function readDefault(parts: readonly WireReader[]): FlagOption["defaultValue"] {
  const { value, hasUnknown } = readOne(parts, ofFlagDefault);
  return value.case === undefined && hasUnknown ? { case: unknownKind } : value;
}
