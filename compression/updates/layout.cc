#include "compression/updates/layout.h"

#include <algorithm>

namespace tern {

void lay_out(const ParameterSchema& schema, size_t small_below, Layout& layout) {
  layout.main.clear();
  layout.small.clear();
  layout.main_elements = layout.small_elements = 0;
  for (size_t i = 0; i < schema.tensors().size(); ++i) {
    const TensorSpec& tensor = schema.tensors()[i];
    const size_t elements = tensor.elements();
    if (elements == 0) continue;
    Piece piece{.update_at = schema.offset(i), .rows = elements, .columns = 1};
    if (tensor.shape.size() >= 2) {
      piece.rows = static_cast<size_t>(tensor.shape[0]);
      piece.columns = elements / piece.rows;
    }
    const bool small =
        small_below > 0 && (elements < small_below || tensor.kind != TensorKind::kWeight);
    size_t& end = small ? layout.small_elements : layout.main_elements;
    piece.at = end;
    end += elements;
    (small ? layout.small : layout.main).push_back(piece);
  }
}

void gather(std::span<const Piece> pieces, std::span<const float> update, std::span<float> stream) {
  for (const Piece& piece : pieces)
    std::copy_n(update.begin() + static_cast<ptrdiff_t>(piece.update_at), piece.size(),
                stream.begin() + static_cast<ptrdiff_t>(piece.at));
}

}  // namespace tern
