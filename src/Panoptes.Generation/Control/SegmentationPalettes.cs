using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>The colors of classes that segmentation conditions are drawn in, by the classes' names.</summary>
public static class SegmentationPalettes
{
    /// <summary>The 150 classes of ADE20K's scene parsing in the colors in which its challenge draws them and ControlNet learned them.</summary>
    public static IReadOnlyDictionary<string, Rgb> Ade20K { get; } = Parse("""
        wall 787878, building B47878, sky 06E6E6, floor 503232, tree 04C803, ceiling 787850, road 8C8C8C, bed CC05FF, windowpane E6E6E6, grass 04FA07, cabinet E005FF,
        sidewalk EBFF07, person 96053D, earth 787846, door 08FF33, table FF0652, mountain 8FFF8C, plant CCFF04, curtain FF3307, chair CC4603, car 0066C8, water 3DE6FA,
        painting FF0633, sofa 0B66FF, shelf FF0747, house FF09E0, sea 0907E6, mirror DCDCDC, rug FF095C, field 7009FF, armchair 08FFD6, seat 07FFE0, fence FFB806, desk 0AFF47,
        rock FF290A, wardrobe 07FFFF, lamp E0FF08, bathtub 6608FF, railing FF3D06, cushion FFC207, base FF7A08, box 00FF14, column FF0829, signboard FF0599, chest of drawers 0633FF,
        counter EB0CFF, sand A09614, sink 00A3FF, skyscraper 8C8C8C, fireplace FA0A0F, refrigerator 14FF00, grandstand 1FFF00, path FF1F00, stairs FFE000, runway 99FF00,
        case 0000FF, pool table FF4700, pillow 00EBFF, screen door 00ADFF, stairway 1F00FF, river 0BC8C8, bridge FF5200, bookcase 00FFF5, blind 003DFF, coffee table 00FF70,
        toilet 00FF85, flower FF0000, book FFA300, hill FF6600, bench C2FF00, countertop 008FFF, stove 33FF00, palm 0052FF, kitchen island 00FF29, computer 00FFAD,
        swivel chair 0A00FF, boat ADFF00, bar 00FF99, arcade machine FF5C00, hovel FF00FF, bus FF00F5, towel FF0066, light FFAD00, truck FF0014, tower FFB8B8, chandelier 001FFF,
        awning 00FF3D, streetlight 0047FF, booth FF00CC, television receiver 00FFC2, airplane 00FF52, dirt track 000AFF, apparel 0070FF, pole 3300FF, land 00C2FF, bannister 007AFF,
        escalator 00FFA3, ottoman FF9900, bottle 00FF0A, buffet FF7000, poster 8FFF00, stage 5200FF, van A3FF00, ship FFEB00, fountain 08B8AA, conveyer belt 8500FF, canopy 00FF5C,
        washer B800FF, plaything FF001F, swimming pool 00B8FF, stool 00D6FF, barrel FF0070, basket 5CFF00, waterfall 00E0FF, tent 70E0FF, bag 46B8A0, minibike A300FF, cradle 9900FF,
        oven 47FF00, ball FF00A3, food FFCC00, step FF008F, tank 00FFEB, trade name 85FF00, microwave FF00EB, pot F500FF, animal FF007A, bicycle FFF500, lake 0ABED4,
        dishwasher D6FF00, screen 00CCFF, blanket 1400FF, sculpture FFFF00, hood 0099FF, sconce 0029FF, vase 00FFCC, traffic light 2900FF, tray 29FF00, ashcan AD00FF, fan 00F5FF,
        pier 4700FF, crt screen 7A00FF, plate 00FFB8, monitor 005CFF, bulletin board B8FF00, shower 0085FF, radiator FFD600, glass 19C2C2, clock 66FF00, flag 5C00FF
        """);

    /// <summary>The 133 classes of COCO's panoptic task in the colors of its own file.</summary>
    public static IReadOnlyDictionary<string, Rgb> Coco { get; } = Parse("""
        person DC143C, bicycle 770B20, car 00008E, motorcycle 0000E6, airplane 6A00E4, bus 003C64, train 005064, truck 000046, boat 0000C0, traffic light FAAA1E,
        fire hydrant 64AA1E, stop sign DCDC00, parking meter AF74AF, bench FA001E, bird A52A2A, cat FF4DFF, dog 00E2FC, horse B6B6FF, sheep 005200, cow 78A69D, elephant 6E4C00,
        bear AE39FF, zebra C76400, giraffe 480076, backpack FFB3F0, umbrella 007D5C, handbag D10097, tie BCD0B6, suitcase 00DCB0, frisbee FF63A4, skis 5C0049, snowboard 8581FF,
        sports ball 4EB4FF, kite 00E400, baseball bat AEFFF3, baseball glove 2D59FF, skateboard 868667, surfboard 9194AE, tennis racket FFD0BA, bottle C5E2FF, wine glass AB8601,
        cup 6D3F36, fork CF8AFF, knife 97005F, spoon 09503D, bowl 546933, banana 4A4169, apple A6C466, sandwich D0C3D2, orange FF6D41, broccoli 008F95, carrot B300C2,
        hot dog D1636A, pizza 057900, donut E3FFCD, cake 93BAD0, chair 994501, couch 035FA1, potted plant A3FF00, bed 7700AA, dining table 00B6C7, toilet 00A578, tv B78258,
        laptop 5F2000, mouse 827287, remote 6E8185, keyboard A64A76, cell phone DB8EB9, microwave 4FD272, oven B25A3E, toaster 41460F, sink 7FA773, refrigerator 3B696A, book 8E6C2D,
        clock C4AC00, vase 5F3650, scissors 804CFF, teddy bear C93901, hair drier F6007A, toothbrush BFA2D0, banner FFFF80, blanket 93D3CB, bridge 966464, cardboard A8ABAC,
        counter 9270C6, curtain D2AA64, door-stuff 5C8859, floor-wood DA58B8, flower F18100, fruit D911FF, gravel 7C4AB5, house 464646, light FFE4FF, mirror-stuff 9AD000,
        net C1005C, pillow 4C5B71, platform FFB4C3, playingfield 6A9AB0, railroad E6968C, river 3C8FFF, road 804080, roof 5C5237, sand FED47C, sea 494DAE, shelf FFA062, snow FFFFFF,
        stairs 68546D, tent A9A483, towel E1C7FF, wall-brick 89364A, wall-stone 879EDF, wall-tile 07F6E7, wall-wood 6BFFC8, water-other 3A2995, window-blind B7798E,
        window-other FF4961, tree-merged 6B8E23, fence-merged BE9999, ceiling-merged 928B8D, sky-other-merged 4682B4, cabinet-merged 86C79C, table-merged D1E28C,
        floor-other-merged 60246C, pavement-merged 606060, mountain-merged 40AA40, grass-merged 98FB98, dirt-merged D0E5E4, paper-merged CEBAAB, food-other-merged 98A140,
        building-other-merged 747000, rock-merged 00728F, wall-other-merged 66669C, rug-merged FA8DFF
        """);

    static Dictionary<string, Rgb> Parse(string text) =>
        text.Split([',', '\n'], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).ToDictionary(static e => e[..^7], static e => Rgb.Parse(e[^6..]), StringComparer.OrdinalIgnoreCase);
}
