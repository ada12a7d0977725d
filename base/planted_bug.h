/// Bugs on purpose. A build with -DTERN_PLANT_BUG=wire, journal or residual breaks one rule that
/// the fault tests watch, so that they can show that they would notice (tests/faults/planted).
/// Every other build has none.
#pragma once

namespace tern {

enum class PlantedBug {
  kNone,
  kWire,     ///< a packet that comes twice is taken for two
  kJournal,  ///< what the journal doesn't have yet is said already
  kResidual  ///< a client that was killed forgets what its update leaves it to owe
};

#ifndef TERN_PLANTED_BUG
#define TERN_PLANTED_BUG kNone
#endif
inline constexpr PlantedBug kPlantedBug = PlantedBug::TERN_PLANTED_BUG;

}  // namespace tern
